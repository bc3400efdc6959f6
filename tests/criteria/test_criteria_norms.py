"""L1, L2, batch-norm scale and random scores against sums written out."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import Head, fill, graph, images
from secateur.criteria.base import CRITERIA, combined, reduce_rows
from secateur.criteria.bn_scale import BNScale
from secateur.criteria.l1 import L1
from secateur.criteria.l2 import L2
from secateur.criteria.random import Random
from secateur.errors import BadModel, BadOption, UnknownName
from secateur.evidence.base import Evidence


def raw(criterion, net, group, seed=0):
    g = graph(net)
    return criterion.score(g[group], Evidence(g.model, seed=seed))


def weight(net, name):
    return graph(net).model.get_parameter(name).detach().double().numpy()


@pytest.mark.parametrize(
    ("criterion", "norm"), [(L1(), lambda w: np.abs(w).sum()), (L2(), lambda w: np.sqrt((w**2).sum()))]
)
@pytest.mark.parametrize(
    ("net", "group", "tensor", "positions"),
    [
        ("plain", "one.0", "one.0.weight", [[i] for i in range(8)]),
        ("plain", "two.0", "two.0.weight", [[i] for i in range(6)]),
        ("mlp", "2", "2.weight", [[i] for i in range(7)]),
        ("grouped", "stem.0", "stem.0.weight", [[i, i + 3, i + 6, i + 9] for i in range(3)]),
    ],
)
def test_norms_are_hand_sums(criterion, norm, net, group, tensor, positions):
    w = weight(net, tensor)
    expected = [norm(np.concatenate([w[p].ravel() for p in unit])) for unit in positions]
    np.testing.assert_allclose(raw(criterion, net, group), expected, rtol=1e-12)


def test_reductions_over_the_layers_of_a_residual_stream():
    """Stem channel i meets channel 1 + i of the second layer of the block."""
    stem = np.abs(weight("padded", "stem.0.weight")).sum((1, 2, 3))
    block = np.abs(weight("padded", "b.0.weight")).sum((1, 2, 3))[1:7]
    np.testing.assert_allclose(raw(L1("first"), "padded", "stem.0"), stem)
    np.testing.assert_allclose(raw(L1("sum"), "padded", "stem.0"), stem + block)
    means = (stem.mean() + block.mean()) / 2
    expected = (stem / stem.mean() + block / block.mean()) / 2 * means
    np.testing.assert_allclose(raw(L1("mean"), "padded", "stem.0"), expected)


def test_reductions_that_take_scores_as_they_are():
    """Three layers write the stream of the two blocks of `Stages`: each unit's three numbers, by hand."""
    g = secateur.trace(fill(Stages()), images(1, 3, 8, 8))
    each = np.stack([np.abs(w(g, n)).sum((1, 2, 3)) for n in ("a.two.weight", "a.short.weight", "b.two.weight")])
    for reduction, expected in {
        "max": each.max(0),
        "min": each.min(0),
        "l2": np.sqrt((each**2).sum(0)),
        "prod": each[0] * each[1] * each[2],
        "sum": each[0] + each[1] + each[2],
    }.items():
        found = L1(reduction).score(g["a.two"], Evidence(g.model))
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=reduction)
        made = CRITERIA.configured("l1", {"reduction": reduction})
        assert torch.equal(made.score(g["a.two"], Evidence(g.model)), found)


def test_a_reduction_that_is_none_is_refused():
    each = [torch.ones(3, dtype=torch.float64)] * 2
    with pytest.raises(UnknownName, match=r"there is no reduction 'maxx'\. Did you mean 'max'"):
        combined(each, "maxx")
    with pytest.raises(UnknownName, match="there is no reduction 'maxx'"):
        combined(each[:1], "maxx")
    with pytest.raises(BadOption, match="reduction='maxx'"):
        CRITERIA.configured("l1", {"reduction": "maxx"})


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_a_product_that_floats_cannot_hold_is_refused(size):
    each = [torch.tensor([size, 0.0], dtype=torch.float64)] * 2
    with pytest.raises(BadModel, match=r"product of the scores of 2 .* use 'mean'"):
        combined(each, "prod")
    assert combined([torch.tensor([0.0, 2.0]), torch.tensor([3.0, 4.0])], "prod").tolist() == [0, 8]


class Block(nn.Module):
    """Two convolutions and a shortcut; the second of them, too, is 1x1 where `bottle`."""

    def __init__(self, before, after, bottle=False, project=True):
        super().__init__()
        self.one = nn.Conv2d(before, 5, 3, padding=1)
        self.two = nn.Conv2d(5, after, 1) if bottle else nn.Conv2d(5, after, 3, padding=1)
        self.short = nn.Conv2d(before, after, 1) if project else nn.Identity()

    def forward(self, x):
        return torch.relu(self.two(torch.relu(self.one(x))) + self.short(x))


class Stages(nn.Module):
    """A block with a projection, and one without."""

    def __init__(self, bottle=False, project=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a = Block(4, 7 if project else 4, bottle, project)
        self.b = Block(7 if project else 4, 7 if project else 4, bottle, project=False)
        self.head = Head(7 if project else 4)

    def forward(self, x):
        return self.head(self.b(self.a(torch.relu(self.stem(x)))))


def w(g, name):
    return g.model.get_parameter(name).detach().double().numpy()


@pytest.mark.parametrize("bottle", [False, True])
def test_first_is_the_projection_where_there_is_one(bottle):
    """Li et al., sec. 3.3: the units of a residual stream are ranked by the filters of the 1x1 shortcut."""
    g = secateur.trace(fill(Stages(bottle)), images(1, 3, 8, 8))
    assert [s.writer.path for s in g["a.two"].sources] == ["a.two", "a.short", "b.two"]
    assert [s.projection for s in g["a.two"].sources] == [False, True, False]
    expected = np.abs(w(g, "a.short.weight")).sum((1, 2, 3))
    np.testing.assert_allclose(L1("first").score(g["a.two"], Evidence(g.model)), expected, rtol=1e-12)


@pytest.mark.parametrize("bottle", [False, True])
def test_first_is_the_first_writer_where_no_projection_is(bottle):
    """The 1x1 convolution that ends a bottleneck is no projection."""
    g = secateur.trace(fill(Stages(bottle, project=False)), images(1, 3, 8, 8))
    assert not any(s.projection for group in g.groups for s in group.sources)
    expected = np.abs(w(g, "stem.weight")).sum((1, 2, 3))
    np.testing.assert_allclose(L1("first").score(g["stem"], Evidence(g.model)), expected, rtol=1e-12)


def test_the_projections_of_resnet18():
    g = graph("resnet18")
    found = {s.writer.path for group in g.groups for s in group.sources if s.projection}
    assert found == {f"layer{n}.0.downsample.0" for n in (2, 3, 4)}
    shortcut = np.abs(w(g, "layer3.0.downsample.0.weight")).sum((1, 2, 3))
    np.testing.assert_allclose(L1("first").score(g["layer3.0.conv2"], Evidence(g.model)), shortcut, rtol=1e-6)
    assert not any(s.projection for group in graph("mobilenet_v2").groups for s in group.sources)


def test_l1_of_writers_and_readers_by_hand():
    """Each channel of the last convolution of "flat" becomes sixteen inputs of the linear layer."""
    one, two, hidden = (np.abs(weight("flat", n)) for n in ("one.0.weight", "two.weight", "hidden.weight"))
    written, read = two.sum((1, 2, 3)), hidden.reshape(11, 5, 16).sum((0, 2))
    np.testing.assert_allclose(raw(L1("sum", consumers=True), "flat", "two"), written + read, rtol=1e-12)
    means = (written.mean() + read.mean()) / 2
    expected = (written / written.mean() + read / read.mean()) / 2 * means
    np.testing.assert_allclose(raw(L1("mean", consumers=True), "flat", "two"), expected, rtol=1e-12)
    expected = one.sum((1, 2, 3)) + two.sum((0, 2, 3))
    np.testing.assert_allclose(raw(L1("sum", consumers=True), "flat", "one.0"), expected, rtol=1e-12)
    np.testing.assert_allclose(raw(L1("max", consumers=True), "flat", "two"), np.maximum(written, read), rtol=1e-12)


def test_l1_counts_no_scale_and_each_slice_once():
    w = {n: np.abs(p.detach().double().numpy()) for n, p in graph("tied").model.named_parameters()}
    both = w["b.weight"].sum(1) + w["b.weight"].sum(0)  # it reads what it writes
    expected = both + w["a.weight"].sum(1) + w["d.weight"].sum(0)
    np.testing.assert_allclose(raw(L1("sum", consumers=True), "tied", "a"), expected, rtol=1e-12)
    scaled = raw(L1("sum", consumers=True), "plain", "one.0")  # a batch norm stands between
    one, two = (np.abs(weight("plain", n)) for n in ("one.0.weight", "two.0.weight"))
    expected = one.sum((1, 2, 3)) + two.sum((0, 2, 3))
    np.testing.assert_allclose(scaled, expected, rtol=1e-12)


def test_l1_of_readers_with_their_first_alone_is_refused():
    with pytest.raises(BadOption, match="consumers=True and reduction='first'"):
        L1("first", consumers=True)


def test_mean_reduction_forgets_the_scale_of_a_layer():
    g = graph("padded")
    other = secateur.trace(_scaled(g.model, "b.0.weight", 1000.0), g.example)
    order = [s.argsort().tolist() for s in (secateur.score(x, "l1")["stem.0"] for x in (g, other))]
    assert order[0] == order[1]
    summed = [secateur.score(x, L1("sum"))["stem.0"].argsort().tolist() for x in (g, other)]
    assert summed[0] != summed[1]


def _scaled(model, name, factor):
    model = copy.deepcopy(model)
    model.get_parameter(name).data.mul_(factor)
    return model


def test_a_layer_of_zeros_does_not_divide_by_zero():
    g = graph("padded")
    other = secateur.trace(_scaled(g.model, "b.0.weight", 0.0), g.example)
    assert torch.isfinite(secateur.score(other, "l1")["stem.0"]).all()
    nothing = _scaled(_scaled(g.model, "b.0.weight", 0.0), "stem.0.weight", 0.0)
    assert (secateur.score(secateur.trace(nothing, g.example), "l2")["stem.0"] == 0).all()


def test_reduce_rows_with_any_function():
    g = graph("plain")
    rows = reduce_rows(g["two.0"], Evidence(g.model), lambda r: r.amax(1), "mean")
    np.testing.assert_allclose(rows, weight("plain", "two.0.weight").reshape(6, -1).max(1))


def test_batch_norm_scale():
    scale = np.abs(weight("plain", "one.1.weight"))
    np.testing.assert_allclose(raw(BNScale(), "plain", "one.0"), scale)
    both = np.maximum(np.abs(weight("padded", "stem.1.weight")), np.abs(weight("padded", "b.1.weight"))[1:7])
    np.testing.assert_allclose(raw(BNScale(), "padded", "stem.0"), both)


def test_batch_norm_scale_sees_signs_as_sizes():
    g = graph("plain")
    other = _scaled(g.model, "one.1.weight", -1.0)
    scores = secateur.score(secateur.trace(other, g.example), "bn-scale")
    np.testing.assert_allclose(scores["one.0"], raw(BNScale(), "plain", "one.0"))


@pytest.mark.parametrize("net", ["nonorm", "mlp", "squeeze"])
def test_batch_norm_scale_needs_a_norm(net):
    with pytest.raises(BadModel, match="no batch norm with a scale follows; use another criterion, or frozen="):
        secateur.score(graph(net), "bn-scale")


def test_batch_norm_without_a_scale():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(BadModel, match="group '0'"):
        secateur.score(secateur.trace(net, torch.zeros(2, 3)), "bn-scale")


def test_random_scores_hang_on_seed_and_group_alone():
    a, b = raw(Random(), "plain", "one.0"), raw(Random(), "plain", "one.0")
    assert torch.equal(a, b)
    assert not torch.equal(a, raw(Random(), "plain", "one.0", seed=1))
    assert not torch.equal(a[:6], raw(Random(), "plain", "two.0"))
    assert ((a >= 0) & (a < 1)).all()


def test_scores_on_different_scales_are_divided_by_their_mean():
    scores = secateur.score(graph("digits-vgg"), "l1")
    assert all(abs(s.mean().item() - 1) < 1e-12 for s in scores.values())
    assert all(s.dtype == torch.float64 and s.device.type == "cpu" for s in scores.values())
    gammas = secateur.score(graph("digits-vgg"), "bn-scale")
    assert any(abs(s.mean().item() - 1) > 1e-3 for s in gammas.values())  # these stand on one scale as they are


def test_norms_see_a_scale_that_the_function_does_not():
    """Li et al.: a filter times c, and what reads it through a ReLU over c, is the same function with another score."""
    g = graph("nonorm")
    model, c = copy.deepcopy(g.model).double(), 7.0
    model.one.weight.data[2] *= c
    model.one.bias.data[2] *= c
    model.two.weight.data[:, 2] /= c
    x = g.example.double()
    with torch.no_grad():
        torch.testing.assert_close(model(x), copy.deepcopy(g.model).double()(x), rtol=1e-12, atol=1e-12)
    other = secateur.trace(model, x)
    for criterion in (L1(), L2()):
        before, after = raw(criterion, "nonorm", "one"), criterion.score(other["one"], Evidence(model))
        factors = torch.ones(8, dtype=torch.float64).index_fill_(0, torch.tensor(2), c)
        torch.testing.assert_close(after, before * factors, rtol=1e-6, atol=0)


def test_zero_filter_without_a_bias_goes_without_a_trace():
    """Li et al.: its removal leaves the output as it is, bit for bit."""
    g = graph("nonorm")
    model = copy.deepcopy(g.model)
    model.one.weight.data[3] = 0
    model.one.bias.data[3] = 0
    dead = secateur.trace(model, g.example)
    assert secateur.score(dead, "l1")["one"].argmin() == 3
    small = secateur.cut(dead, secateur.Plan.keeping(dead, {"one": [0, 1, 2, 4, 5, 6, 7]})).model
    with torch.no_grad():
        a, b = model.double().eval()(g.example.double()), small.double().eval()(g.example.double())
    assert (a - b).abs().max() <= 1e-15


def test_a_score_that_is_not_finite_is_refused():
    class Broken(L1):
        def score(self, group, evidence):
            return torch.full((group.size,), float("nan"), dtype=torch.float64)

    with pytest.raises(BadModel, match=r"not finite in group 'one\.0'"):
        secateur.score(graph("plain"), Broken())


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_of_a_weight_norm_the_weight_itself_counts(norm):
    """Not the direction that it is computed from, whose length does nothing."""
    net = nn.Sequential(norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for p in net[0].parameters():
            if p.shape == (6, 5):
                p.mul_(torch.arange(1.0, 7.0).flip(0)[:, None])
            elif p.shape == (6, 1):
                p.copy_(torch.arange(1.0, 7.0)[:, None])
    x = torch.ones(1, 5)
    net(x)
    scores = secateur.score(secateur.trace(net, x), "l2")["0"]
    torch.testing.assert_close(scores, torch.arange(1.0, 7.0).double() / 3.5)
