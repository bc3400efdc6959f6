"""Scores carried back through a linear surrogate: by hand, by explicit loops, and as the bound that they are."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged
from nets import ALL, HAND, NoNorm, fill, fresh, graph, images
from secateur.errors import BadModel
from secateur.evidence.surrogate import last_layer, propagate
from secateur.surgery.mask import masked_forward


def traced(net, *shape):
    return secateur.trace(fill(net).double().eval(), images(2, *shape).double())


def ones(g):
    return torch.ones(last_layer(g).labels.size, dtype=torch.float64)


def absolute(parameter):
    return parameter.detach().double().abs()


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


# --- closed forms -------------------------------------------------------------------------------------------------


def test_two_layers_by_hand():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    g = traced(net, 2)
    net[2].weight.data = torch.tensor([[1.0, -2.0], [0.0, 3.0], [-4.0, 5.0]]).double()
    s = torch.tensor([10.0, 1.0, 0.5]).double()
    found = propagate(g, s)
    assert found["2"].tolist() == [10.0, 1.0, 0.5]
    assert found["0"].tolist() == [10 + 0 + 2, 20 + 3 + 2.5]


def test_layers_of_layers():
    net = nn.Sequential(*(m for i in range(4) for m in (nn.Linear(5, 5), nn.ReLU())), nn.Linear(5, 2))
    g = traced(net, 5)
    s = torch.arange(1.0, 6.0).double()
    found, carried = propagate(g, s), s
    for layer in (6, 4, 2):
        assert_close(found[str(layer)], carried)
        carried = absolute(net[layer].weight).T @ carried
    assert_close(found["0"], carried)


def by_loops(weight, s, stride, padding, groups, size):
    """For each input channel and position the sum over all outputs that read it of |w| * s."""
    (outputs, each, *kernel), found = weight.shape, np.zeros((weight.shape[1] * groups, *size))
    for o, y, x in itertools.product(range(outputs), range(s.shape[1]), range(s.shape[2])):
        for i, dy, dx in itertools.product(range(each), *map(range, kernel)):
            at = y * stride + dy - padding, x * stride + dx - padding
            if 0 <= at[0] < size[0] and 0 <= at[1] < size[1]:
                found[(o // (outputs // groups)) * each + i][at] += abs(weight[o, i, dy, dx]) * s[o, y, x]
    return found


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, 1, 1), (2, 0, 2), (1, 2, 2)])
def test_convolutions_by_loops(stride, padding, groups):
    second = nn.Conv2d(4, 6, 3, stride=stride, padding=padding, groups=groups)
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), second, nn.ReLU(), nn.Conv2d(6, 5, 2), nn.Flatten())
    g = traced(net, 1, 6, 7)
    final = torch.arange(1.0, 7.0).double()
    s = final[:, None, None].expand(net[:4](g.example).shape[1:]).numpy()
    found = propagate(g, final)
    carried = by_loops(second.weight.detach().numpy(), s, stride, padding, groups, (6, 7))
    for name, maps in (("2", s), ("0", carried)):
        index = g[name].sources[0].index  # (units, m): of grouped layers a unit is a channel of each group
        assert_close(found[name], torch.from_numpy(maps.sum((1, 2))[index].sum(1)))


def test_a_transposed_convolution_and_flattening():
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.ConvTranspose2d(3, 4, 2, stride=2), nn.Flatten())
    net = nn.Sequential(*net, nn.Linear(4 * 16, 2))
    g = traced(net, 1, 2, 2)
    s = torch.arange(1.0, 65.0).double()
    found = propagate(g, s)
    maps = s.reshape(4, 4, 4)
    assert_close(found["2"], maps.sum((1, 2)))
    blocks = F.conv2d(maps[None], absolute(net[2].weight), stride=2)[0]
    assert_close(found["0"], blocks.sum((1, 2)))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 1, 1), nn.AdaptiveMaxPool2d(2)])
def test_the_maximum_of_a_pool_is_its_mean(pool):
    net = [nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 5, 1), pool, nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1)]
    net = nn.Sequential(*net, nn.Flatten(), nn.Linear(4, 2))
    g = traced(net, 1, 4, 4)
    s = torch.arange(1.0, 5.0).double()
    x = torch.zeros(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    options = {k: getattr(pool, k) for k in ("kernel_size", "stride", "padding", "output_size") if hasattr(pool, k)}
    mean = F.adaptive_avg_pool2d if isinstance(pool, nn.AdaptiveMaxPool2d) else F.avg_pool2d
    y = F.conv2d(mean(F.conv2d(x, absolute(net[2].weight)), **options), absolute(net[4].weight)).mean((2, 3))
    (expected,) = torch.autograd.grad(y @ s, x)
    assert_close(propagate(g, s)["0"], expected.sum((0, 2, 3)))


def test_batch_norms_do_nothing_or_scale():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    g = traced(net, 3)
    net[3].weight.data[1] *= -1
    s = torch.arange(1.0, 6.0).double()
    assert_close(propagate(g, s)["0"], absolute(net[2].weight).T @ s)
    scale = absolute(net[3].weight) / (net[3].running_var + net[3].eps).sqrt()
    assert_close(propagate(g, s, norms="scaled")["0"], absolute(net[2].weight).T @ (scale * s))
    assert_close(propagate(g, s, norms="scaled")["2"], s)


class Branches(nn.Module):
    """A sum, a concatenation, and a tensor that three layers read."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.a, self.b, self.c = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(4, 2)
        self.join, self.head = nn.Linear(7, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(F.relu(self.join(torch.cat([self.a(x).relu() - self.b(x).relu(), self.c(x).relu()], 1))))


def test_sums_copy_concatenations_split_and_branches_add_up():
    g = traced(Branches(), 3)
    net, s = g.model, torch.arange(1.0, 7.0).double()
    found = propagate(g, s)
    joined = absolute(net.join.weight).T @ s
    assert_close(found["a"], joined[:5])
    assert_close(found["c"], joined[5:])
    parts = ((net.a, joined[:5]), (net.b, joined[:5]), (net.c, joined[5:]))
    assert_close(found["stem"], sum(absolute(layer.weight).T @ carried for layer, carried in parts))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two, self.head = nn.Linear(3, 4), nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head((x + self.two(self.one(x).relu())).relu())


def test_a_stream_has_the_scores_of_all_its_readers():
    g = traced(Residual(), 3)
    net, s = g.model, torch.arange(1.0, 5.0).double()
    found = propagate(g, s)
    inner = absolute(net.two.weight).T @ s
    assert_close(found["one"], inner)
    assert_close(found["stem"], s + absolute(net.one.weight).T @ inner)


# --- laws ---------------------------------------------------------------------------------------------------------

LINEAR = [n for n in HAND if n != "squeeze"]


@pytest.mark.parametrize("name", LINEAR)
def test_it_is_linear_in_the_scores(name):
    g = graph(name)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(ones(g).shape, generator=generator, dtype=torch.float64) for _ in range(2))
    whole, first, second = propagate(g, 2 * a + 3 * b), propagate(g, a), propagate(g, b)
    for group in whole:
        assert_close(whole[group], 2 * first[group] + 3 * second[group])


@pytest.mark.parametrize("name", LINEAR)
def test_what_nothing_hears_scores_nothing(name):
    """Weights that go out from unit 0 of each group are zero; the last layer's own are not propagated through."""
    model = fresh(name).eval()
    g = secateur.trace(model, ALL[name].example)
    last = last_layer(g)
    quiet = [x for x in g.groups if last.weight not in {m.tensor for m in x.members if m.reads}]
    assert quiet or name in ("mlpnorm", "raw", "tied", "twice")
    for group in quiet:
        for member in group.members:
            if member.role == "in":
                index = torch.from_numpy(member.index[0])
                model.get_parameter(member.tensor).data.index_fill_(member.axis, index, 0.0)
    found = propagate(g, ones(g))
    for group in quiet:
        assert found[group.name][0] == 0
        assert (found[group.name][1:] > 0).all()


@pytest.mark.parametrize(("net", "shape"), [(Branches, (3,)), (Residual, (3,)), (NoNorm, (1, 7, 7))])
@pytest.mark.parametrize("seed", range(3))
def test_a_score_times_an_activation_bounds_the_change(net, shape, seed):
    """Of the last features, weighted by s, when a unit is taken from every layer that reads it."""
    model = fill(net(), seed).double().eval()
    x = images(9, *shape).double()
    g = secateur.trace(model, x[:1])
    s = torch.rand(ones(g).shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    final = []
    last = model.get_submodule(last_layer(g).path)
    last.register_forward_pre_hook(lambda _, args: final.append(args[0].detach()))
    scores = propagate(g, s)
    highest = {}
    evidence = secateur.collect(g, "mean-activation", batches=[(x[i : i + 1], None) for i in range(9)])
    for group in g.groups:
        fields = evidence.of("activations", group.name)
        highest[group.name] = torch.maximum(fields["highest"], -fields["lowest"]).amax(0)
    for group in g.groups:
        for unit in range(group.size):
            keep = np.delete(np.arange(group.size), unit)
            alive = torch.from_numpy(g.alive({group.name: keep}))
            final.clear()
            masked_forward(model, g.trace, x, alive)
            model(x)
            change = ((final[0] - final[1]).abs() @ s).max()
            assert change <= scores[group.name][unit] * highest[group.name][unit] * (1 + 1e-9)


def test_dropped_units_carry_nothing_on():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    g = traced(net, 3)
    s, kept = torch.arange(1.0, 6.0).double(), torch.tensor([0, 3, 4])
    found = propagate(g, s, kept={"2": kept})
    assert_close(found["0"], absolute(net[2].weight)[kept].T @ s[kept])


def test_nothing_is_touched():
    model, example = fresh("padded"), ALL["padded"].example
    with assert_unchanged(model):
        g = secateur.trace(model, example)
        propagate(g, ones(g))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_types(dtype):
    model = fresh("plain").to(dtype).eval()
    g = secateur.trace(model, ALL["plain"].example.to(dtype))
    found = propagate(g, ones(g))["one.0"]
    wide = secateur.trace(model.double(), ALL["plain"].example.double())
    assert_close(found, propagate(wide, ones(wide))["one.0"])


def test_tokens_and_several_outputs():
    g = graph("named")
    assert last_layer(g).path == "other"
    found = propagate(g, ones(g))
    assert set(found) == {g.name for g in g.groups}


# --- what has no surrogate ----------------------------------------------------------------------------------------


def in_place(x, y):
    """A difference that nobody rebinds."""
    x.sub_(y)
    return x


class Odd(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.zero, self.one, self.two, self.between = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2), between

    def forward(self, x):
        return self.two(self.between(self.one(self.zero(x).relu())))


@pytest.mark.parametrize(
    ("between", "named"),
    [
        (lambda x: x.softmax(-1), "softmax is not linear"),
        (lambda x: x * x.sigmoid(), "mul of two activations"),
        (lambda x: x / x.norm(dim=-1, keepdim=True), "norm is not linear"),
        (lambda x: 1 / (1 + x), "is not linear"),
        (lambda x: x.exp(), "exp is not linear"),
        (lambda x: torch.sub(x, x, alpha=2), "sub is not linear"),
        (lambda x: F.max_pool1d(x[None], 1, return_indices=True)[0][0], "max_pool1d"),
        (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0], "scaled_dot_product_attention"),
    ],
)
def test_what_is_not_linear_is_refused_by_name(between, named):
    g = traced(Odd(between), 3)
    with pytest.raises(BadModel, match=named):
        propagate(g, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("between", "factor"),
    [
        (lambda x: -x, 1),
        (lambda x: x * -2, 2),
        (lambda x: 2.5 * x, 2.5),
        (lambda x: x.mul(torch.tensor(-2.0)), 2),
        (lambda x: torch.tensor([-3.0, 3.0, -3.0, 3.0]) * x, 3),
        (lambda x: x @ (-2 * torch.eye(4).double()), 2),
        (lambda x: 3 - x, 1),
        (lambda x: x - 3, 1),
        (lambda x: x / -4.0, 0.25),
        (lambda x: F.leaky_relu(x), 1),
        (lambda x: F.gelu(x).detach() + x, 2),
        (lambda x: x - x, 2),
        (lambda x: F.relu_(x.clone()).add_(1.0), 1),
        (lambda x: torch.stack([x, x]).sum(0), 2),
        (lambda x: x.clone().sub_(x), 2),
        (lambda x: in_place(x.clone(), x), 2),
        (lambda x: x.data + x, 2),
        (lambda x: F.dropout(x, 0.5, False).to(x.dtype), 1),
    ],
)
def test_constants_signs_and_activations(between, factor):
    """Only the absolute value of what multiplies counts, and nothing that is added."""
    g = traced(Odd(between), 3)
    s = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    assert_close(propagate(g, s)["zero"], factor * (absolute(g.model.one.weight).T @ s))


def test_scores_of_another_shape_are_refused():
    with pytest.raises(BadModel, match=r"scores of shape \(3,\) cannot be carried back: \(6,\) scores needed"):
        propagate(graph("plain"), torch.ones(3))
