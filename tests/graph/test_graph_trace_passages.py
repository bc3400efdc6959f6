"""What stands between two layers: sizes that follow a cut, reductions over what is kept, and what is frozen."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import difference, random_plan, run, zeroed
from nets import fill, images


class Shaped(nn.Module):
    """A convolution, something in between, a linear layer of 216 inputs."""

    def __init__(self, between, width=6):
        super().__init__()
        self.conv, self.linear, self.between, self.width = nn.Conv2d(1, width, 3), nn.Linear(216, 4), between, width
        self.slope = nn.Parameter(torch.rand(width))

    def forward(self, x):
        return self.linear(self.between(self, F.relu(self.conv(x))))


def unpack(f):
    return lambda net, x: f(x, *x.size())


FOLLOWED = {
    "flatten": (lambda net, x: x.flatten(1), ()),
    "minus one": (lambda net, x: x.view(x.size(0), -1), ()),
    "size()": (unpack(lambda x, b, c, h, w: x.view(b, c * h * w)), ()),
    "size() times numbers": (unpack(lambda x, b, c, h, w: x.reshape(b, 36 * c)), ()),
    "attribute alone": (lambda net, x: x.view(2, net.width, 36).flatten(1), ()),
    "out_channels": (lambda net, x: x.view(2, net.conv.out_channels, 36).flatten(1), ()),
    "permuted": (lambda net, x: x.permute(0, 2, 3, 1).flatten(1), ()),
    "in place": (lambda net, x: x.relu_().mul_(2).flatten(1), ()),
    "without the tag of element-wise ops": (lambda net, x: F.hardswish(F.prelu(x, net.slope), True).flatten(1), ()),
    "shape": (lambda net, x: x.view(x.shape[0], x.shape[1] * 36), ()),
    "shape unpacked": (lambda net, x: (lambda b, c, h, w: x.view(b, c * h * w))(*x.shape), ()),
    "size(dim)": (lambda net, x: x.view(x.size(0), x.size(1) * 36), ()),
    "an attribute times a number": (lambda net, x: x.view(2, net.width * 36), ()),
    "an attribute times two": (lambda net, x: x.view(2, 2 * net.width * 18), ()),
    "unflatten by an attribute": (lambda net, x: x.flatten(1).unflatten(1, (net.width, 36)).flatten(1), ()),
}


@pytest.mark.parametrize("case", [pytest.param(n, marks=marks) for n, (_, marks) in FOLLOWED.items()])
def test_sizes_that_follow_a_cut(case):
    model = fill(Shaped(FOLLOWED[case][0]))
    g = secateur.trace(model, images(2, 1, 8, 8))
    assert [x.name for x in g.groups] == ["conv"]
    plan = random_plan(g, keep=0.5)
    pruned = secateur.cut(g, plan)
    assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9
    assert pruned.model.linear.in_features == 3 * 36


HALVED = {
    "swapped": lambda net, x: torch.cat(x.chunk(2, 1)[::-1], 1).flatten(1),
    "gated": lambda net, x: (lambda a, b: torch.cat([a * b.sigmoid(), b], 1))(*x.chunk(2, 1)).flatten(1),
    "more chunks than there are": lambda net, x: torch.cat(x.chunk(4, 1)[::-1], 1).flatten(1),
    "shuffled": lambda net, x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1),
}


def sliced(model, kept):
    """The smaller `Shaped`, made by hand: channels of the convolution, and 36 columns of the linear layer for each."""
    small = Shaped(model.between, len(kept))
    columns = (torch.tensor(kept)[:, None] * 36 + torch.arange(36)).flatten()
    with torch.no_grad():
        small.conv.weight.copy_(model.conv.weight[kept])
        small.conv.bias.copy_(model.conv.bias[kept])
        small.linear = nn.Linear(len(columns), 4)
        small.linear.weight.copy_(model.linear.weight[:, columns])
        small.linear.bias.copy_(model.linear.bias)
    return small


OVER_KEPT = {
    "softmax": lambda net, x: x.softmax(1).flatten(1),
    "mean": lambda net, x: (x - x.mean(1, keepdim=True)).flatten(1),
    "maximum": lambda net, x: (x - x.amax(1, keepdim=True)).flatten(1),
    "layer norm": lambda net, x: F.layer_norm(x, x.shape[1:]).flatten(1),
    "group norm": lambda net, x: F.group_norm(x, 1).flatten(1),
    "normalize": lambda net, x: F.normalize(x, dim=1).flatten(1),
    "standardised": lambda net, x: ((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1)).flatten(1),
}


@pytest.mark.parametrize("case", OVER_KEPT)
def test_reductions_over_channels_run_over_those_kept(case):
    """Held to a small model made by hand, which knows nothing of masks."""
    model = fill(Shaped(OVER_KEPT[case]))
    g = secateur.trace(model, images(2, 1, 8, 8))
    assert [(x.name, x.size) for x in g.groups] == [("conv", 6)]
    pruned = secateur.cut(g, secateur.Plan.keeping(g, {"conv": [0, 2, 5]}))
    assert difference(run(sliced(model, [0, 2, 5]), g.example), run(pruned.model, g.example)) < 1e-9


@pytest.mark.parametrize("case", HALVED)
def test_equal_chunks_lose_the_same(case):
    model = fill(Shaped(HALVED[case]))
    g = secateur.trace(model, images(2, 1, 8, 8))
    pieces = 3 if "more" in case else 2  # so many channels a unit
    assert [(x.name, x.size) for x in g.groups] == [("conv", 6 // pieces)]
    plan = secateur.Plan.keeping(g, {"conv": [1]})
    pruned = secateur.cut(g, plan)
    assert pruned.model.conv.out_channels == pieces
    assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9


FROZEN = {
    "a plain number": (lambda net, x: x.view(2, 216), "plain number 216"),
    "an unknown op": (lambda net, x: x.cummax(1)[0].flatten(1), "there is no rule for aten.cummax"),
    "an order": (lambda net, x: x.cumsum(1).flatten(1), "aten.cumsum.default depends on the place along it"),
    "a ranking": (lambda net, x: x.sort(1)[0].flatten(1), "puts its indices into an order"),
    "a split": (lambda net, x: torch.cat(x.split(3, 1), 1).flatten(1), "a size given to split is the plain number 3"),
    "plain halves": (lambda net, x: x.view(2, 2, 3, 36).flatten(1), "seen as 2 x 3, of which no side can be cut"),
    "a root of its length": (lambda net, x: (x / x.shape[1] ** 0.5).flatten(1), "fixed width"),
    "its length": (lambda net, x: (x * x.shape[1]).flatten(1), "fixed width"),
    "a constant": (lambda net, x: (x * torch.ones(6, 1, 1)).flatten(1), "combined with a tensor of fixed width"),
}


@pytest.mark.parametrize("case", FROZEN)
def test_what_cannot_follow_is_frozen_with_the_reason(case):
    between, reason = FROZEN[case]
    g = secateur.trace(fill(Shaped(between)), images(2, 1, 8, 8))
    assert g.groups == ()
    reasons = [f.reason for f in g.frozen if f.name.startswith("conv")]
    assert reasons
    assert all(reason in r for r in reasons)
    assert reason in str(g.coverage())


def test_a_slice_at_a_plain_number_keeps_what_it_counts():
    between = lambda net, x: torch.cat([x[:, 2:], x[:, :2]], 1).flatten(1)  # noqa: E731
    g = secateur.trace(fill(Shaped(between)), images(2, 1, 8, 8))
    assert [(x.size, x.kind) for x in g.groups] == [(4, "channel")]
    assert ("conv", 2, "sliced at a plain number") in [(f.name, f.size, f.reason) for f in g.frozen]
    plan = random_plan(g, keep=0.5)
    pruned = secateur.cut(g, plan)
    assert pruned.model.conv.out_channels == 4
    assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9


def test_half_of_an_attribute_counts_pairs():
    between = lambda net, x: x.view(2, net.width // 2, 2 * 36).flatten(1)  # noqa: E731
    g = secateur.trace(fill(Shaped(between)), images(2, 1, 8, 8))
    assert [(x.name, x.size) for x in g.groups] == [("conv", 3)]
    plan = secateur.Plan.keeping(g, {"conv": [0, 2]})
    pruned = secateur.cut(g, plan)
    assert pruned.model.width == pruned.model.conv.out_channels == 4
    assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9


def test_one_attribute_for_two_layers_ties_them():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.width, self.a, self.b, self.c = 6, nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = F.relu(self.a(x)).view(2, self.width)
            return self.c(F.relu(self.b(x)).view(2, self.width))

    g = secateur.trace(Two(), torch.zeros(2, 5))
    # One attribute for two layers: they can only be cut alike, and are one group.
    assert [(x.name, x.size) for x in g.groups] == [("a", 6)]
    assert {m.tensor for m in g.groups[0].members} == {"a.weight", "a.bias", "b.weight", "b.bias", "c.weight"}
    plan = random_plan(g, keep=0.5)
    assert secateur.cut(g, plan).model.width == 3
