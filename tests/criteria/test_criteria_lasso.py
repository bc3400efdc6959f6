"""LASSO on channels of networks against scikit-learn on samples, planted supports, duplicates and dead channels."""

import numpy as np
import pytest
import torch
from gram_nets import Reads, given, problem, random, rescaled_loss
from sklearn.linear_model import Lasso as Reference
from torch import nn

import secateur
from nets import fill
from secateur.allocation.uniform import Uniform
from secateur.criteria.lasso import Lasso
from secateur.methods.base import METHODS


def reference(z, penalty):
    """Coefficients by scikit-learn, on columns without a mean; a penalty of 1 is the energy of what is given."""
    y = z.sum(1)
    share = penalty * (y**2).sum() / len(y)
    return Reference(alpha=share, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(z, y).coef_


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_score_is_the_penalty_at_which_scikit_learn_lets_the_unit_in(seed, intercept):
    x, w = random(seed=seed)
    z = given(x, w, centre=intercept)
    for k, score in enumerate(Lasso(intercept=intercept).score(*problem(x, w)).tolist()):
        assert reference(z, score * (1 + 1e-3))[k] == 0
        assert reference(z, score * (1 - 1e-3))[k] != 0


@pytest.mark.parametrize("seed", range(3))
def test_the_set_chosen_is_one_of_scikit_learns(seed):
    x, w = random(seed=seed)
    z, where = given(x, w, centre=True), problem(x, w)
    sets = [frozenset(np.flatnonzero(reference(z, 0.96**n)).tolist()) for n in range(250)]
    for count in range(1, 7):
        chosen = Lasso().choose(*where, count)
        assert chosen.shape == (count,)
        assert any(len(s) == count for s in sets)
        assert frozenset(chosen.tolist()) in {s for s in sets if len(s) == count}


def test_a_planted_support_is_found():
    """Half of the channels make what is given; the rest are heard, but their contributions are next to nothing."""
    x, w = random(rows=200, channels=10)
    planted = [0, 3, 4, 8, 9]
    w[:, [k for k in range(10) if k not in planted]] *= 1e-4
    assert Lasso().choose(*problem(x, w), 5).tolist() == planted
    assert set(Lasso().score(*problem(x, w)).argsort()[5:].tolist()) == set(planted)


def test_of_equal_channels_one_stays_and_stands_for_both():
    """The count is what is sure; with it, rescaling leaves nothing."""
    x, w = random()
    x[:, 4], w[:, 4] = x[:, 1], w[:, 1]
    kept = Lasso(intercept=False).choose(*problem(x, w), 5).tolist()
    assert len({1, 4} & set(kept)) == 1
    assert rescaled_loss(given(x, w), kept) < 1e-12
    assert Lasso().score(*problem(x, w))[[1, 4]].min() == 0.0


def test_of_a_cancelling_pair_one_is_superfluous():
    """x_3 = -x_1: whatever a coefficient of one does, that of the other does with its sign turned."""
    x, w = random()
    x[:, 3], w[:, 3] = x[:, 1], -w[:, 1]
    where = problem(x, w)
    assert Lasso().score(*where)[[1, 3]].min() == 0.0
    assert len({1, 3} & set(Lasso().choose(*where, 5).tolist())) == 1


def test_dead_channels_score_nothing_and_go_first():
    x, w = random()
    x[:, 2], w[:, 5] = 0.0, 0.0
    scores = Lasso().score(*problem(x, w))
    assert scores[[2, 5]].tolist() == [0.0, 0.0]
    assert (scores[[0, 1, 3, 4]] > 0).all()
    assert Lasso().choose(*problem(x, w), 4).tolist() == [0, 1, 3, 4]
    assert Lasso().choose(*problem(x, w), 5).tolist() == [0, 1, 2, 3, 4]  # one must stay, and the first does
    nothing = problem(x, 0 * w)
    assert Lasso().score(*nothing).tolist() == [0.0] * 6
    assert Lasso().choose(*nothing, 2).tolist() == [0, 1]


def test_ties_go_by_number():
    z = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 4)))[0][:, :, None]
    for count in range(1, 5):
        assert Lasso(intercept=False).choose(*problem(z, np.ones((1, 4, 1))), count).shape == (count,)
    scores = Lasso(intercept=False).score(*problem(z, np.ones((1, 4, 1))))
    torch.testing.assert_close(scores, torch.full((4,), 0.25, dtype=torch.float64))  # their share of the energy


def test_uncorrelated_channels_score_their_share_of_the_energy():
    z = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 4)))[0] * [1.0, 3.0, 0.5, 2.0]
    scores = Lasso(intercept=False).score(*problem(z[:, :, None], np.ones((1, 4, 1))))
    expected = torch.tensor([1, 9, 0.25, 4], dtype=torch.float64) / 14.25
    torch.testing.assert_close(scores, expected)


def test_all_one_and_a_single_unit():
    x, w = random()
    where = problem(x, w)
    assert Lasso().choose(*where, 6).tolist() == list(range(6))
    assert Lasso().choose(*where, 1).tolist() == [int(Lasso().score(*where).argmax())]
    x, w = random(channels=1)
    assert Lasso().choose(*problem(x, w), 1).tolist() == [0]
    assert Lasso().score(*problem(x, w)).tolist() == pytest.approx([1.0])


def test_more_columns_than_rows():
    x, w = random(rows=3, channels=9, m=4, outputs=1)
    scores = Lasso(intercept=False).score(*problem(x, w))
    assert (scores >= 0).all()
    for count in (1, 4, 8):
        assert len(set(Lasso(intercept=False).choose(*problem(x, w), count).tolist())) == count


def leaving():
    """A design in which channel 0 comes in second and leaves when channel 1, the last but one, comes."""
    x, w = random(channels=5, m=1, outputs=1, seed=259)
    z, sets = given(x, w, centre=True), []
    for n in range(600):
        found = np.flatnonzero(reference(z, 2 * 0.985**n)).tolist()
        sets += [found] if found not in sets[-1:] else []
    assert sets == [[], [2], [0, 2], [0, 2, 3], [2, 3], [2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 3, 4]]
    assert set(Lasso().score(*problem(x, w)).argsort(descending=True)[:4].tolist()) == {0, 2, 3, 4}
    return Reads([w]), torch.from_numpy(x)


def test_prune_keeps_the_set_of_so_many_even_where_a_channel_has_left():
    net, x = leaving()
    options = {"criterion": "lasso", "allocator": Uniform(keep=0.8), "batches": [(x, None)]}
    pruned = secateur.prune(net, x[:2], **options)
    assert pruned.plan.kept["first"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("sequential", [False, True])
def test_so_does_the_method(sequential):
    net, x = leaving()
    graph = secateur.trace(net, x[:2])
    budget = secateur.Budget(params=secateur.cut(graph, secateur.Plan.keeping(graph, {"first": range(4)})).after.params)
    plan = METHODS.configured("he2017", {"sequential": sequential}).plan(graph, budget, batches=[(x, None)])
    assert plan.kept["first"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("criterion", ["lasso", "thinet-ls", "obs"])
@pytest.mark.parametrize("tail", ["bias", "norm", "none"])
def test_a_constant_channel_goes_only_where_a_constant_has_a_place(criterion, tail):
    """A channel of 10 says nothing that a bias, or the mean of a norm right behind, could not."""
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3, bias=tail == "bias"))
    if tail == "norm":
        net.append(nn.BatchNorm1d(3))
    net = fill(net).double().eval()
    with torch.no_grad():
        net[0].weight *= 0.3
        net[0].weight[3], net[0].bias[3] = 0.0, 10.0
    x = torch.randn(500, 5, generator=torch.Generator().manual_seed(0)).double()
    options = {"criterion": criterion, "allocator": Uniform(keep=0.875), "batches": [(x, None)]}
    pruned = secateur.prune(net, x[:2], repair="reconstruct", **options)
    assert (3 in pruned.plan.kept["0"]) == (tail == "none")
    with torch.no_grad():
        wrong = (pruned.model.eval()(x) - net(x)).square().sum() / net(x).square().sum()
    assert wrong < 2e-4
