"""Taylor scores by batch norms: one norm is "taylor", several are squared one by one, none is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import assert_close, data, filled, gate_gradients, traced, weight_gradients
from nets import fill, graph, images
from secateur.criteria.taylor_bn import TaylorBN
from secateur.errors import BadModel
from secateur.evidence.collect import collect
from secateur.testing import check_criterion


def behind(net, x, y):
    """Gradients of three gates, each behind one norm: the stream's two are not shared."""
    z = [torch.ones(n, 1, 1, dtype=torch.float64, requires_grad=True) for n in (5, 4, 5)]
    a = net.act(net.n0(net.stem(x)) * z[0])
    a = net.act(a + net.n2(net.two(net.act(net.n1(net.one(a)) * z[1]))) * z[2])
    return [g.flatten() for g in torch.autograd.grad(F.cross_entropy(net.head(a.mean((2, 3))), y), z)]


def test_one_norm_that_writes_a_group_gives_the_score_of_a_gate():
    net = filled()
    scores, others = (secateur.score(traced(net), c, batches=data()) for c in ("taylor-bn", "taylor"))
    assert_close(scores["one"], others["one"])
    assert_close(scores["one"], gate_gradients(net, data())["one"].square().mean(0))


@pytest.mark.parametrize("name", ["plain", "grouped", "mlpnorm"])
def test_one_norm_is_one_gate_whatever_a_unit_holds(name):
    """Four channels a unit, in the grouped net: their products are added before the square."""
    g = graph(name)
    batches = [(g.example, torch.tensor([1, 2])), (g.example.flip(0) + 0.1, torch.tensor([1, 2]))]
    ours, theirs = (secateur.score(g, c, batches=batches) for c in ("taylor-bn", "taylor"))
    for group in g.groups:
        torch.testing.assert_close(ours[group.name], theirs[group.name], rtol=1e-5, atol=0)


def test_the_identity_of_scale_and_shift():
    net, (x, y) = filled(), data()[0]
    gradient = weight_gradients(net, x, y)
    product = net.n1.weight * gradient["n1.weight"] + net.n1.bias * gradient["n1.bias"]
    assert_close(product.detach(), gate_gradients(net, [(x, y)])["one"][0])


def test_gates_of_all_channels_together_are_the_scale_of_what_the_head_reads():
    """Sum of z_k g_k = dL/dscale: no activation stands between the norm and a linear head."""
    net = fill(nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(45, 3))).double().eval()
    x, y = data()[0]
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    F.cross_entropy(net[2:](net[:2](x) * scale), y).backward()
    found = collect(secateur.trace(net, x), {"gradients"}, batches=[(x, y)]).of("gradients", "0")
    assert_close(found["total"].sum() / len(x), scale.grad)


def test_several_norms_are_squared_one_by_one():
    net = filled()
    stem, _, two = (torch.stack(each) for each in zip(*(behind(net, x, y) for x, y in data()), strict=True))
    stem, two = stem.square().mean(0), two.square().mean(0)
    mean = (stem / stem.mean() + two / two.mean()) / 2 * (stem.mean() + two.mean()) / 2
    for reduction, expected in (("sum", stem + two), ("first", stem), ("mean", mean)):
        assert_close(secateur.score(traced(net), TaylorBN(reduction), batches=data())["stem"], expected)
    joint = secateur.score(traced(net), "taylor", batches=data())["stem"]
    assert (joint <= (stem + two) * (1 + 1e-12)).all()  # (a + b)^2 / 2 is at most a^2 + b^2


def test_first_is_the_norm_of_a_projection_where_there_is_one():
    g = graph("resnet18")
    evidence = collect(g, {"norm_gradients"}, batches=[(g.example, torch.zeros(1, dtype=torch.long))])
    found = evidence.of("norm_gradients", "layer2.0.conv2")
    rows = [s.writer.norm.path for s in g["layer2.0.conv2"].sources]
    assert rows == ["layer2.0.bn2", "layer2.0.downsample.1", "layer2.1.bn2"]
    assert_close(TaylorBN("first").score(g["layer2.0.conv2"], evidence), found["square"][1] / found["count"])


def test_a_norm_that_runs_twice_is_one_norm():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.n0, self.again = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)
            self.n1, self.head = nn.BatchNorm1d(6), nn.Linear(6, 4)

        def forward(self, x):
            x = self.n0(self.stem(x)).relu()
            for _ in range(2):
                x = self.n1(self.again(x)).relu()
            return self.head(x)

    net, (x, y) = fill(Again()).double().eval(), (images(6, 5).double(), torch.arange(6) % 4)
    gradient = weight_gradients(net, x, y)
    each = [sum(net.get_parameter(f"{n}.{p}") * gradient[f"{n}.{p}"] for p in ("weight", "bias")) for n in ("n0", "n1")]
    found = secateur.score(secateur.trace(net, x), "taylor-bn", batches=[(x, y)])["stem"]
    assert_close(found, (each[0] ** 2 + each[1] ** 2))


@pytest.mark.parametrize("name", ["nonorm", "mlp", "squeeze", "transposed"])
def test_a_layer_without_a_batch_norm_is_refused_by_group(name):
    g = graph(name)
    with pytest.raises(BadModel, match=r"no norm_gradients of '[^']+'.*no batch norm with a scale follows.*frozen="):
        secateur.score(g, "taylor-bn", batches=[(g.example, torch.tensor([1, 2]))])


def test_a_norm_without_a_scale_is_refused():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Linear(4, 2))
    g = secateur.trace(net, torch.zeros(2, 3))
    with pytest.raises(BadModel, match=r"of '0'.*no batch norm with a scale"):
        secateur.score(g, "taylor-bn", batches=[(torch.ones(2, 3), torch.tensor([0, 1]))])


def test_the_contract():
    check_criterion("taylor-bn")
