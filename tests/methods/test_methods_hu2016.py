"""Network trimming: who is a standard deviation above the mean, by hand and by NumPy; step after step."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import batches
from nets import fill, graph, images
from secateur.errors import BadModel, BadOption, NeedsData
from secateur.methods.base import METHODS
from secateur.methods.hu2016 import NetworkTrimming
from secateur.testing import check_method


def planted(*fractions, rows=100):
    """A layer whose units are zero for these fractions of the examples, exactly, and the examples."""
    width = len(fractions)
    net = nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, 2)).eval()
    net[0].weight.data.copy_(torch.eye(width))
    x = torch.ones(rows, width)
    for unit, fraction in enumerate(fractions):
        x[: round(fraction * rows), unit] = -1
    return net, x


def kept(net, x, **options):
    g = secateur.trace(net, x[:2])
    plan = NetworkTrimming(**options).plan(g, batches=[(x[:30], None), (x[30:], None)])
    return plan.kept.get("0", np.arange(g["0"].size)).tolist()


def test_dead_units_go():
    assert kept(*planted(0.2, 1, 0.3, 0.2, 0.25, 1, 0.2)) == [0, 2, 3, 4, 6]


@pytest.mark.parametrize("fraction", [0, 0.01, 0.1, 0.37, 0.5, 0.99, 1])
@pytest.mark.parametrize("width", [1, 2, 3, 6, 7, 50])
@pytest.mark.parametrize("deviations", [0, 1])
def test_nothing_goes_where_all_are_alike(fraction, width, deviations):
    assert kept(*planted(*[fraction] * width), deviations=deviations) == list(range(width))


def test_the_threshold_is_the_mean_and_so_many_deviations():
    """Of 0, 0, 0, 1 the mean is 1/4 and the deviation sqrt(3)/4: 1 is sqrt(3) deviations above."""
    for deviations, stay in ((0, 3), (1, 3), (1.73, 3), (1.74, 4), (9, 4)):
        assert len(kept(*planted(0, 0, 0, 1), deviations=deviations)) == stay


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("deviations", [0.5, 1, 1.5])
def test_by_numpy(seed, deviations):
    zeros = np.round(np.random.default_rng(seed).beta(1, 3, size=40), 2)
    expected = np.flatnonzero(zeros <= zeros.mean() + deviations * zeros.std())
    assert 20 < len(expected) < 40
    assert kept(*planted(*zeros), deviations=deviations) == expected.tolist()


def test_layers_with_few_zeros_stay_whole():
    net, x = planted(0.1, 0.1, 0.1, 0.5)  # 0.2 on average
    for above, stay in ((0.0, 3), (0.19, 3), (0.21, 4), (1.0, 4)):
        assert len(kept(net, x, above=above)) == stay


def test_every_layer_has_a_threshold_of_its_own_and_frozen_ones_stay():
    g = graph("digits-vgg")
    data = [(images(12, *g.example.shape[1:]), None)]
    evidence, criterion = secateur.collect(g, "apoz", batches=data), secateur.criteria()["apoz"]()
    plan = NetworkTrimming().plan(g, batches=data)
    for group in g.groups:
        zeros = 1 - criterion.score(group, evidence).numpy()
        expected = np.flatnonzero(zeros <= zeros.mean() + zeros.std())
        assert plan.kept.get(group.name, np.arange(group.size)).tolist() == expected.tolist()
    assert len({len(plan.kept[n]) / g[n].size for n in plan.kept}) > 1
    name = next(iter(plan.kept))
    frozen = secateur.trace(g.model, g.example, frozen=[name])
    assert set(NetworkTrimming().plan(frozen, batches=data).kept) == set(plan.kept) - {name}


def test_step_after_step_until_nothing_goes():
    """What is left has another mean and another deviation; dead units are gone without a trace."""
    net, x = planted(0, 0, 0, 0, 0, 0, 0.1, 0.4, 1)
    widths = [9]
    while True:
        g = secateur.trace(net, x[:2])
        plan = NetworkTrimming().plan(g, batches=[(x, None)])
        if not plan.kept:
            break
        net = secateur.cut(g, plan).model
        widths.append(net[0].out_features)
    assert widths == [9, 8, 7, 6]


def test_a_budget_changes_nothing():
    net, x = planted(0.2, 1, 0.3, 0.2)
    g = secateur.trace(net, x[:2])
    plans = [NetworkTrimming().plan(g, b, batches=[(x, None)]) for b in (None, secateur.Budget(macs=0.01))]
    assert plans[0] == plans[1]


def test_what_cannot_be_asked_for():
    for options in ({"deviations": -1}, {"deviations": float("nan")}, {"deviations": float("inf")}):
        with pytest.raises(BadOption, match='method "hu2016": deviations='):
            NetworkTrimming(**options)
    for above in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadOption, match='method "hu2016": above='):
            NetworkTrimming(above=above)
    g = graph("plain")
    for given in (None, []):
        with pytest.raises(NeedsData):
            NetworkTrimming().plan(g, batches=given)
    net = fill(nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2)))
    with pytest.raises(BadModel, match="not behind a ReLU"):
        NetworkTrimming().plan(secateur.trace(net, images(2, 4)), batches=[(images(9, 4), None)])


def test_the_contract():
    check_method("hu2016")
    check_method(NetworkTrimming(deviations=0.5))
    g = graph("plain")
    plan = METHODS.make("hu2016").plan(g, batches=batches(g.example))
    assert secateur.cut(g, plan).check.max_error < 1e-6
