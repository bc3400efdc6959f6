"""One forward, read: what is seen through, what is refused, what is put back."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import difference, random_plan, run, unchanged, zeroed
from nets import fill, images
from secateur.errors import TraceError
from secateur.graph.trace import read, undisturbed


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
}


@pytest.mark.parametrize("case", HALVED)
def test_equal_chunks_lose_the_same(case):
    model = fill(Shaped(HALVED[case]))
    g = secateur.trace(model, images(2, 1, 8, 8))
    pieces = 3 if "more" in case else 2
    assert [(x.name, x.size) for x in g.groups] == [("conv", 6 // pieces)]
    plan = secateur.Plan.keeping(g, {"conv": [1]})
    pruned = secateur.cut(g, plan)
    assert pruned.model.conv.out_channels == pieces
    assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9


FROZEN = {
    "an attribute times a number": (lambda net, x: x.view(2, net.width * 36), "cannot be undone"),
    "a plain number": (lambda net, x: x.view(2, 216), "plain number 216"),
    "half of an attribute": (lambda net, x: x.view(2, net.width // 2, 2 * 36).flatten(1), "split into axes"),
    "an unknown op": (lambda net, x: x.cumsum(1).flatten(1), "there is no rule for aten.cumsum"),
    "a softmax": (lambda net, x: x.softmax(1).flatten(1), "softmax sums over it"),
    "a split": (lambda net, x: torch.cat(x.split(3, 1), 1).flatten(1), "stated or unequal sizes"),
    "a slice": (lambda net, x: torch.cat([x[:, :3], x[:, 3:]], 1).flatten(1), "sliced by plain numbers"),
    "a mean": (lambda net, x: (x - x.mean(1, keepdim=True)).flatten(1), "reduces over it"),
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


def test_an_attribute_that_decides_two_widths_is_frozen():
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


def test_a_forward_that_looks_at_values_is_refused():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(4, 4)

        def forward(self, x):
            y = self.gate(x)
            return y if y.sum() > 0 else -y

    model = Branch()
    with unchanged(model), pytest.raises(TraceError, match="values in a tensor"):
        read(model, torch.zeros(2, 4))


def test_a_model_without_a_tensor_to_show_is_refused():
    class Silent(nn.Linear):
        def forward(self, x):
            super().forward(x)

    with pytest.raises(TraceError, match="no tensor but a NoneType"):
        read(Silent(2, 2), torch.zeros(1, 2))


def test_errors_of_the_forward_come_through():
    class Broken(nn.Linear):
        def forward(self, x):
            raise KeyError("mine")

    model = Broken(2, 2)
    with unchanged(model), pytest.raises(KeyError, match="mine"):
        read(model, torch.zeros(1, 2))


def test_undisturbed_puts_every_mode_back():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    net[1][1].eval()
    with undisturbed(net):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == [True, True, True, True, False]


def test_no_weights_are_read_and_none_are_made():
    """A model on the meta device has a shape and nothing else; 6 GB of weights are traced in no memory."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(20_000, 40_000), nn.ReLU(), nn.Linear(40_000, 20_000))
    g = secateur.trace(model, torch.empty(1, 20_000, device="meta"))
    assert [(x.name, x.size) for x in g.groups] == [("0", 40_000)]


def test_unused_parameters_are_listed():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    assert read(Spare(), torch.zeros(1, 3)).unused == ("spare.weight", "spare.bias")


def test_a_frozen_backbone_is_read_all_the_same():
    model = fill(Shaped(FOLLOWED["flatten"][0])).requires_grad_(False)
    assert len(secateur.trace(model, images(2, 1, 8, 8)).groups) == 1


class Wrapped(nn.Module):
    """Its first convolution is wrapped or replaced."""

    def __init__(self, first, width):
        super().__init__()
        self.first, self.second, self.head = first, nn.Conv2d(width, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


WRAPPED = {
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3)), 4, ()),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), 4, ()),
    "grouped transposed": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 8, 3, groups=2)), 8, ()),
}


@pytest.mark.parametrize("case", [pytest.param(n, marks=m) for n, (_, _, m) in WRAPPED.items()])
def test_layers_that_cannot_be_cut_freeze_themselves_alone(case):
    make, width, _ = WRAPPED[case]
    g = secateur.trace(Wrapped(make(), width), images(2, 1, 9, 9))
    assert [x.name for x in g.groups] == ["second"]


def test_a_norm_called_as_a_function_is_no_module():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 2)

        def forward(self, x):
            n = self.norm
            x = F.batch_norm(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias)
            return self.head(F.relu(x).mean((2, 3)))

    g = secateur.trace(fill(Functional()), images(2, 1, 8, 8))
    assert [x.size for x in g.groups] == [5]
    plan = random_plan(g, keep=0.5)
    assert difference(run(zeroed(g, plan), g.example), run(secateur.cut(g, plan).model, g.example)) < 1e-9


def test_gradients_need_not_be_on():
    with torch.no_grad():
        assert secateur.trace(Shaped(FOLLOWED["flatten"][0]), images(2, 1, 8, 8)).groups


def test_inference_mode_changes_nothing():
    model = Shaped(FOLLOWED["flatten"][0])
    with torch.inference_mode():
        assert secateur.trace(model, images(2, 1, 8, 8)).groups


def test_tensors_inside_an_output_object_are_outputs():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            hidden = self.one(x)
            return SimpleNamespace(logits=self.two(hidden), inner=SimpleNamespace(hidden=hidden))

    g = secateur.trace(Holder(), torch.zeros(1, 4))
    assert g.groups == ()
    assert {f.reason for f in g.frozen} == {"reaches the model's output"}
