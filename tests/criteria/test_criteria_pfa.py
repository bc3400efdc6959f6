"""Correlated filters: planted responses, and the order of removal by brute force."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import images
from secateur.criteria.pfa import PFA, removal_order
from secateur.errors import NeedsData
from secateur.evidence.collect import collect


def identity(width):
    net = nn.Sequential(nn.Linear(width, width, bias=False), nn.Identity(), nn.Linear(width, 2)).double().eval()
    net[0].weight.data.copy_(torch.eye(width))
    return net


def scores(x):
    """Of planted responses (examples, units)."""
    net = identity(x.shape[1])
    g = secateur.trace(net, x[:1])
    return PFA().score(g["0"], collect(g, {"covariance"}, batches=[(x, None)]))


def order(x):
    return scores(x).argsort(stable=True).tolist()


def by_brute_force(x):
    """Correlations computed anew after each removal."""
    left, gone = list(range(x.shape[1])), []
    while len(left) > 2:
        rho = np.abs(np.corrcoef(x[:, left].T))
        gone.append(left.pop(int((rho.sum(1) - 1).argmax())))
    return gone + sorted(left, key=lambda k: x[:, k].std())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("examples", [6, 200])
def test_the_order_is_that_of_brute_force(seed, examples):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, 9)) @ rng.normal(size=(9, 9))
    assert order(torch.from_numpy(x)) == by_brute_force(x)


def test_scores_are_places_in_the_order():
    found = scores(images(50, 5).double())
    assert sorted(found.tolist()) == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_one_of_two_duplicates_goes_first():
    x = images(300, 5).double()
    x = torch.cat([x, x[:, 2:3]], 1)
    assert order(x)[0] in (2, 5)
    assert order(x)[1] not in (2, 5)  # without its double the other correlates with nothing
    scaled = x * torch.tensor([1, 1, 7.0, 1, 1, -0.1]) + 3  # correlations know neither scale nor sign nor shift
    assert order(scaled)[0] == 5  # of equal sums, the one that varies least


def test_of_one_direction_the_unit_that_varies_most_is_left():
    x = images(20, 1).double() * torch.tensor([3.0, -1.0, 5.0, 2.0])
    assert order(x) == [1, 3, 0, 2]


def test_units_that_never_vary_go_before_all_others():
    x = images(30, 5).double()
    x[:, 1] = 7.0
    x[:, 4] = 0.0
    found = scores(x)
    assert found[[1, 4]].tolist() == [0, 0]
    assert sorted(found.tolist()) == [0, 0, 0.6, 0.8, 1.0]


@pytest.mark.parametrize("width", [1, 2])
def test_few_units(width):
    assert sorted(scores(images(9, width).double()).tolist()) == [(i + 1) / width for i in range(width)]


def test_all_units_dead():
    assert scores(torch.zeros(9, 4).double()).tolist() == [0, 0, 0, 0]


def test_ties_fall_to_the_first_unit():
    assert removal_order(torch.eye(4, dtype=torch.float64)).tolist() == [0, 1, 2, 3]
    assert removal_order(torch.ones(4, 4, dtype=torch.float64)).tolist() == [0, 1, 2, 3]


def test_too_little_data_is_refused():
    x = images(3, 4).double()
    for rows, why in ((x[:1], "1 was given"), (x * float("nan"), "output of NaN")):
        with pytest.raises(NeedsData, match=why):
            scores(rows)
    with pytest.raises(NeedsData, match="are empty"):
        secateur.score(secateur.trace(identity(4), x), "pfa", batches=[])
    with pytest.raises(NeedsData, match="give batches"):
        secateur.score(secateur.trace(identity(4), x), "pfa")
