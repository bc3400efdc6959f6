"""Widths from spectra against scikit-learn and SciPy, planted responses, budgets by brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.decomposition import PCA
from torch import nn

import secateur
from held import batches
from nets import graph, images
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BadOption, BudgetUnreachable, NeedsData, NothingToDo
from secateur.evidence.covariance import spectrum
from secateur.methods.pfa import PrincipalFilters, cumulated, energy_width, kl_width
from secateur.testing import check_method


def identity(width):
    net = nn.Sequential(nn.Linear(width, width, bias=False), nn.Identity(), nn.Linear(width, 2)).double().eval()
    net[0].weight.data.copy_(torch.eye(width))
    return net


def kept(x, budget=None, **options):
    """Units that stay of planted responses (examples, units)."""
    g = secateur.trace(identity(x.shape[1]), x[:1])
    plan = PrincipalFilters(**options).plan(g, budget, batches=[(x, None)])
    return plan.kept.get("0", np.arange(x.shape[1])).tolist()


def hadamard(width):
    """(width + 1, width) columns that are uncorrelated and of one variance, exactly; width + 1 a power of two."""
    h = np.ones((1, 1))
    while len(h) <= width:
        h = np.block([[h, h], [h, -h]])
    return torch.from_numpy(h[:, 1 : width + 1].copy())


OPTIONS = [{"recipe": "kl"}, {"energy": 0.95}, {"energy": 1.0}]


@pytest.mark.parametrize("options", OPTIONS)
def test_uncorrelated_responses_of_one_variance_all_stay(options):
    assert kept(hadamard(7), **options) == list(range(7))


@pytest.mark.parametrize("options", OPTIONS)
def test_of_one_direction_one_unit_stays(options):
    x = images(20, 1).double() * torch.tensor([3.0, -1.0, 5.0, 2.0])
    assert kept(x, **options) == [2]


def test_the_unit_that_correlates_most_goes_first():
    x = hadamard(7)[:, [0, 1, 2, 3, 1]]
    assert len(kept(x, recipe="energy", energy=1.0)) == 4  # five units in four directions
    assert set(kept(x, energy=1.0)) in ({0, 2, 3, 1}, {0, 2, 3, 4})


@pytest.mark.parametrize("energy", [0.1, 0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("seed", range(3))
def test_as_many_directions_as_scikit_learn_finds(energy, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12))
    assert (
        len(kept(torch.from_numpy(x), energy=energy))
        == PCA(n_components=energy, svd_solver="full").fit(x).n_components_
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_divergence_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12))
    values = np.linalg.eigvalsh(np.cov(x.T))
    expected = 12 * (1 - entropy(values / values.sum(), np.full(12, 1 / 12)) / math.log(12))
    assert len(kept(torch.from_numpy(x), recipe="kl")) == max(1, round(expected))


def test_widths_by_hand():
    values = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    parts = cumulated(values)
    assert [energy_width(parts, e) for e in (0.1, 0.4, 0.41, 0.7, 0.9, 0.95, 1.0)] == [1, 1, 2, 2, 3, 4, 4]
    assert energy_width(cumulated(torch.full((10,), 0.1).double()), 0.3) == 3  # as 0.1 + 0.1 + 0.1 is not 0.3
    assert kl_width(torch.tensor([1.0, 0.0, 0.0]).double()) == 1
    assert kl_width(torch.ones(7).double()) == 7
    assert kl_width(torch.tensor([1.0, 1.0, 0.0, 0.0]).double()) == 2  # entropy log 2 is half of log 4
    for values in (torch.tensor([2.0]).double(), torch.zeros(4).double()):
        assert kl_width(values) == energy_width(cumulated(values), 0.95) == 1


def test_a_budget_takes_the_largest_part_that_meets_it():
    """Every part at which a width changes is tried, one by one."""
    g = graph("digits-resnet")
    data = [(images(40, *g.example.shape[1:]), None)]
    evidence, cost = secateur.collect(g, "pfa", batches=data), CostModel(g)
    parts = {x.name: cumulated(spectrum(x, evidence)) for x in g.groups}
    steps = sorted({float(p) for each in parts.values() for p in each})
    tried = [{name: int((each < part - 1e-12).sum()) + 1 for name, each in parts.items()} for part in steps]
    for macs in (0.7, 0.5, 0.2):
        fit = [w for w in tried if cost.at(w).macs <= macs * cost.dense().macs]
        assert len(fit) < len(tried)
        assert PrincipalFilters().plan(g, secateur.Budget(macs=macs), batches=data).widths(g) == fit[-1]


def test_tighter_budgets_nest():
    g = graph("digits-vgg")
    data = [(images(40, *g.example.shape[1:]), None)]
    last = None
    for macs in (0.8, 0.5, 0.3, 0.1):
        plan = PrincipalFilters().plan(g, secateur.Budget(macs=macs), batches=data)
        held = {x.name: set(plan.kept.get(x.name, np.arange(x.size)).tolist()) for x in g.groups}
        assert last is None or all(held[name] <= last[name] for name in held)
        last = held


def test_every_group_has_widths_of_its_own():
    g = graph("digits-resnet")
    data = [(images(40, *g.example.shape[1:]), None)]
    for options in ({"recipe": "kl"}, {"energy": 0.9}):
        plan = PrincipalFilters(**options).plan(g, batches=data)
        parts = {n: w / g[n].size for n, w in plan.widths(g).items()}
        assert len(set(parts.values())) > 2
        pruned = secateur.cut(g, plan)
        assert pruned.after.macs < pruned.before.macs


@pytest.mark.parametrize("recipe", ["energy", "kl"])
def test_groups_that_never_vary_keep_one_unit(recipe):
    assert kept(torch.ones(5, 4).double(), recipe=recipe) == [3]


def test_what_cannot_be_asked_for():
    g, data = graph("plain"), batches(graph("plain").example)
    with pytest.raises(BadBudget, match='recipe "kl" finds the widths by itself'):
        PrincipalFilters(recipe="kl").plan(g, secateur.Budget(macs=0.5), batches=data)
    with pytest.raises(BadOption, match="recipe='en'"):
        PrincipalFilters(recipe="en")
    for energy in (0.0, 1.5, float("nan")):
        with pytest.raises(BadOption, match="energy="):
            PrincipalFilters(energy=energy)
    for given in (None, [], [(g.example[:1], None)]):
        with pytest.raises(NeedsData):
            PrincipalFilters().plan(g, secateur.Budget(macs=0.5), batches=given)
    with pytest.raises(BudgetUnreachable):
        PrincipalFilters().plan(g, secateur.Budget(macs=1e-6), batches=data)
    with pytest.raises(NothingToDo):
        PrincipalFilters().plan(g, secateur.Budget(macs=1.0), batches=data)


def test_the_contract():
    check_method("pfa")
    check_method(PrincipalFilters(energy=0.8))
