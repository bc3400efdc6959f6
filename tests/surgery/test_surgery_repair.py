"""Recalibration and reconstruction: both bring a cut model nearer to the dense one, and touch nothing else."""

import copy

import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged, batches, random_plan
from nets import ALL, HAND, OURS, fill, fresh, graph, images
from secateur.errors import NeedsData
from secateur.graph.example import call, tensors
from secateur.surgery.recalibrate import recalibrate
from secateur.surgery.reconstruct import reconstruct


def cut_and_inputs(name, count=4):
    g = graph(name)
    plan = secateur.allocate(g, secateur.score(g, "random"), secateur.Budget(macs=0.6))
    return g, plan, secateur.cut(g, plan).model, [x for x, _ in batches(g.example, count)]


def distance(a, b, inputs):
    a, b = a.eval(), b.eval()
    with torch.no_grad():
        pairs = [(tensors(call(a, x)), tensors(call(b, x))) for x in inputs]
    return sum(float((p - q).square().sum()) for ps, qs in pairs for p, q in zip(ps, qs, strict=True))


def test_statistics_are_those_of_the_batches():
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))
    inputs = [images(4, 1, 5, 5), images(4, 1, 5, 5) * 2]
    recalibrate(net, inputs)
    with torch.no_grad():
        seen = [net[0](x) for x in inputs]
    mean = torch.stack([s.mean((0, 2, 3)) for s in seen]).mean(0)
    var = torch.stack([s.var((0, 2, 3)) for s in seen]).mean(0)
    torch.testing.assert_close(net[1].running_mean, mean)
    torch.testing.assert_close(net[1].running_var, var)
    assert net[1].momentum == 0.1
    assert net.training


def test_recalibration_needs_batches():
    with pytest.raises(NeedsData):
        recalibrate(fresh("plain"), [])


def test_recalibration_keeps_mixed_modes():
    net = fresh("plain")
    net.one[1].eval()
    recalibrate(net, [images(4, 1, 8, 8)])
    assert net.training
    assert not net.one[1].training


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x, y):
        return self.two(torch.relu(self.norm(self.one(x + y))))


@pytest.mark.parametrize("keyword", [False, True])
def test_recalibration_takes_every_kind_of_example(keyword):
    x = {"x": images(4, 4), "y": images(4, 4)} if keyword else (images(4, 4), images(4, 4))
    half = secateur.Budget(macs=0.5)
    found = secateur.prune(fill(Two()), x, budget=half, batches=[(x, None)], repair="recalibrate")
    assert found.after.macs <= found.before.macs / 2


@pytest.mark.parametrize(
    "name", ["plain", "padded", "concat", "mlp", "flat", "nonorm", "squeeze", "digits-resnet", "digits-vgg"]
)
def test_reconstruction_brings_the_output_nearer(name):
    g, plan, model, inputs = cut_and_inputs(name, 16)
    repaired = copy.deepcopy(model)
    with assert_unchanged(g.model):
        assert reconstruct(g, plan, repaired, inputs) is repaired
    assert distance(g.model, repaired, inputs) < distance(g.model, model, inputs)
    g.model.train()


def test_reconstruction_is_the_same_each_time():
    g, plan, model, inputs = cut_and_inputs("digits-resnet")
    first, second = (reconstruct(g, plan, copy.deepcopy(model), inputs) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", sorted(HAND | OURS))
def test_reconstruction_of_every_net_makes_nothing_worse(name):
    """On the inputs that it is fitted to; half of every group is gone."""
    g = graph(name)
    plan = random_plan(g, keep=0.5)
    model, inputs = secateur.cut(g, plan).model, [x for x, _ in batches(g.example, 8)]
    repaired = reconstruct(g, plan, copy.deepcopy(model), inputs)
    assert distance(g.model, repaired, inputs) <= distance(g.model, model, inputs)
    g.model.train()


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv1d(1, 6, 3), nn.ReLU(), nn.Conv1d(6, 5, 3), nn.Flatten(), nn.Linear(40, 2)),
        nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, padding="same"), nn.Flatten(), nn.Linear(500, 2)
        ),
    ],
    ids=["one dimension", "padding by name"],
)
def test_reconstruction_of_other_convolutions(net):
    x = images(4, 1, 12) if isinstance(net[0], nn.Conv1d) else images(4, 1, 12, 12)
    half = secateur.Budget(macs=0.5)
    plain, mended = (
        secateur.prune(fill(net), x, budget=half, batches=[(x, None)], repair=r).model for r in ("none", "reconstruct")
    )
    assert distance(net, mended, [x]) < distance(net, plain, [x])


@pytest.mark.parametrize("repair", ["fold", "recalibrate", "reconstruct"])
def test_repairs_by_name(repair):
    model, example = fresh("padded"), ALL["padded"].example
    data = batches(example, 4)
    plain, mended = (
        secateur.prune(model, example, budget=secateur.Budget(macs=0.6), batches=data, repair=r)
        for r in ("none", repair)
    )
    assert plain.plan.kept.keys() == mended.plan.kept.keys()
    assert distance(plain.model, mended.model, [example]) > 0
    assert mended.after == plain.after
