"""Merging neurons without data: which go, into which, how far, and that it beats removing the same ones."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, difference, run
from nets import HAND, fill, graph, images
from secateur.cost.cost import CostModel
from secateur.criteria.merging import cutoff, saliency_of
from secateur.errors import BudgetUnreachable, NothingToDo, SurgeryError
from secateur.evidence.base import Evidence
from secateur.groups.plan import Merge, Plan
from secateur.methods.srinivas2015 import NeuronMerging
from secateur.surgery.mergeable import mergeable
from secateur.testing import check_method

HALF = secateur.Budget(params=0.6)


def one_layer(units=12, act=nn.ReLU):
    return secateur.trace(fill(nn.Sequential(nn.Linear(6, units), act(), nn.Linear(units, 4))), images(2, 6))


def keeping(g, **widths):
    """The budget that is met when these groups have these widths, and not one unit more."""
    return secateur.Budget(params=float(CostModel(g).at(widths).params))


def steps_of(g, name, **options):
    return list(saliency_of(g[name], Evidence(g.model), **options).steps())


@pytest.mark.parametrize("scaled", [False, True])
def test_the_contract(scaled):
    check_method(NeuronMerging(scaled=scaled))


@pytest.mark.parametrize("left", [11, 7, 3, 1])
def test_in_one_layer_it_is_the_published_order(left):
    g = one_layer()
    plan, steps = NeuronMerging().plan(g, keeping(g, **{"0": left})), steps_of(g, "0")[: 12 - left]
    assert plan.kept["0"].tolist() == sorted(set(range(12)) - {s.unit for s in steps})
    assert plan.merges["0"] == Merge.chained("0", [s[:3] for s in steps])
    assert set(plan.merges["0"].factors) == {1.0}


def test_merges_of_merges_are_what_they_would_be_one_by_one():
    g = one_layer()
    plan = NeuronMerging().plan(g, keeping(g, **{"0": 3}))
    columns = g.model[2].weight.detach().double().clone()
    for step in steps_of(g, "0")[:9]:
        columns[:, step.into] += columns[:, step.unit]
    small = secateur.cut(g, plan).model
    torch.testing.assert_close(small[2].weight.double(), columns[:, plan.kept["0"]], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["plain", "padded", "flat", "mlp", "digits-resnet", "small-vgg"])
@pytest.mark.parametrize("field", ["macs", "params"])
def test_the_budget_is_met_and_with_one_merge_fewer_it_is_not(name, field):
    g = graph(name)
    budget = secateur.Budget(**{field: 0.6})
    plan = NeuronMerging().plan(g, budget)
    limit, cost = budget.limits(CostModel(g).dense())[field], CostModel(g)
    widths = plan.widths(g)
    assert getattr(cost.at(widths), field) <= limit
    assert all(set(m.units) == set(range(g[n].size)) - set(plan.kept[n].tolist()) for n, m in plan.merges.items())
    last = {n: list(saliency_of(g[n], Evidence(g.model)).steps())[len(m.units) - 1] for n, m in plan.merges.items()}
    back = [n for n in last if getattr(cost.at(widths | {n: widths[n] + 1}), field) > limit]
    assert back  # the merge that was made last is among these


def test_the_next_merge_is_always_the_cheapest_of_all_groups():
    g = graph("padded")
    held = {x.name: saliency_of(x, Evidence(g.model)) for x in g.groups}
    scale = {n: float(s.matrix[s.matrix.isfinite()].mean()) for n, s in held.items()}
    widths, dense = {x.name: x.size for x in g.groups}, CostModel(g).dense().params
    for _ in range(12):
        costs = {n: step.saliency / scale[n] for n, s in held.items() if (step := s.lowest()) is not None}
        name = min(costs, key=costs.get)
        held[name].merge(held[name].lowest())
        widths[name] -= 1
        cost = CostModel(g).at(widths).params
        assert cost < dense
        assert NeuronMerging().plan(g, secateur.Budget(params=float(cost))).widths(g) == widths


@pytest.mark.parametrize("name", ["plain", "padded", "digits-vgg"])
def test_tighter_budgets_nest(name):
    g, before = graph(name), None
    for share in (0.9, 0.7, 0.5, 0.4):
        kept = NeuronMerging().plan(g, secateur.Budget(params=share)).kept
        whole = {x.name: set(kept[x.name].tolist()) if x.name in kept else set(range(x.size)) for x in g.groups}
        assert before is None or all(whole[n] <= before[n] for n in whole)
        before = whole


def test_groups_stand_on_one_scale():
    """What multiplies a layer's rows and divides the next one's columns changes no choice, nor what divides both."""
    g = graph("mlp")
    wanted = NeuronMerging().plan(g, HALF)
    model = copy.deepcopy(g.model)
    with torch.no_grad():
        model[4].weight.mul_(64.0)
        model[4].bias.mul_(64.0)
    assert NeuronMerging().plan(secateur.trace(model, g.example), HALF) == wanted


def doubles(act, factor, **dtype):
    """Two layers, where units 8 to 11 of the first are `factor` times units 0 to 3."""
    net = fill(nn.Sequential(nn.Linear(6, 12), act(), nn.Linear(12, 4))).double()
    with torch.no_grad():
        net[0].weight[8:], net[0].bias[8:] = factor * net[0].weight[:4], factor * net[0].bias[:4]
    return secateur.trace(net, images(2, 6).double())


def test_duplicates_go_first_and_nothing_changes():
    g = doubles(nn.Tanh, 1.0)
    plan = NeuronMerging().plan(g, keeping(g, **{"0": 8}))
    assert {frozenset(p) for p in zip(plan.merges["0"].units, plan.merges["0"].into, strict=True)} == {
        frozenset({u, u + 8}) for u in range(4)
    }
    assert difference(run(g.model, g.example), run(secateur.cut(g, plan).model, g.example)) < 1e-12


@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, nn.Identity])
def test_scaled_duplicates_go_first_behind_relu_and_its_like(act):
    g = doubles(act, 0.3)
    plan = NeuronMerging(scaled=True).plan(g, keeping(g, **{"0": 8}))
    small = secateur.cut(g, plan).model
    assert difference(run(g.model, g.example), run(small, g.example)) < 1e-12
    plain = NeuronMerging().plan(g, keeping(g, **{"0": 8}))
    assert difference(run(g.model, g.example), run(secateur.cut(g, plain).model, g.example)) > 1e-3


@pytest.mark.parametrize("act", [nn.Tanh, nn.GELU])
def test_elsewhere_the_scaled_variant_is_the_plain_one(act):
    g = doubles(act, 0.3)
    assert NeuronMerging(scaled=True).plan(g, HALF) == NeuronMerging().plan(g, HALF)


@pytest.mark.parametrize("name", [*HAND, "digits-resnet", "small-vgg"])
def test_plans_cut_on_every_network(name):
    g = graph(name)
    may = mergeable(g, g.groups)
    for method in (NeuronMerging(), NeuronMerging(scaled=True)):
        try:
            plan = method.plan(g)
        except SurgeryError:
            assert name == "sliced"
            continue
        with assert_unchanged(g.model):
            pruned = secateur.cut(g, plan)
        assert pruned.check.max_error < 1e-9
        for group, merge in plan.merges.items():
            kin = may.kin[group]
            assert (kin[list(merge.units)] == kin[list(merge.into)]).all()


def test_without_a_budget_each_group_stops_at_its_cut_off():
    g = graph("digits-vgg")
    plan = NeuronMerging().plan(g)
    for group in g.groups:
        steps = steps_of(g, group.name)
        limit = cutoff([s.saliency for s in steps])
        first = next(i for i, s in enumerate(steps) if s.saliency > limit)
        assert group.size - len(plan.kept.get(group.name, range(group.size))) == first
    assert sum(plan.widths(g).values()) < sum(x.size for x in g.groups)
    assert NeuronMerging().plan(g, seed=5) == plan


def test_duplicates_go_without_a_budget():
    g = doubles(nn.Tanh, 1.0)
    merge = NeuronMerging().plan(g).merges["0"]
    assert set(range(4)) | set(range(8, 12)) <= {*merge.units, *merge.into}


class Stream(nn.Module):
    """A stream that a layer norm reads, and a hidden layer."""

    def __init__(self, hidden=12):
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, hidden), nn.Linear(hidden, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + self.down(F.gelu(self.up(self.norm(x)))))


def test_what_cannot_be_merged_stays_whole_and_is_named_when_it_is_missed():
    g = secateur.trace(fill(Stream()), images(2, 5, 6))
    plan = NeuronMerging().plan(g, secateur.Budget(params=0.7))
    assert set(plan.kept) == set(plan.merges) == {"up"}
    with pytest.raises(BudgetUnreachable, match=r"below the reachable.*group 'embed' cannot be merged: .*layer_norm"):
        NeuronMerging().plan(g, secateur.Budget(params=0.1))


def test_where_nothing_can_be_merged_it_says_why():
    net = nn.Sequential(nn.Linear(6, 8), nn.Softmax(-1), nn.Linear(8, 3))
    with pytest.raises(SurgeryError, match=r"units of no group can be merged\. units of group '0'.*softmax"):
        NeuronMerging().plan(secateur.trace(fill(net), images(2, 6)), HALF)


def test_a_budget_that_is_met_already():
    with pytest.raises(NothingToDo):
        NeuronMerging().plan(graph("plain"), secateur.Budget(macs=1e12))


def test_units_whose_kernels_differ_behind_them_stay():
    g = graph("depthwise")
    assert set(NeuronMerging().plan(g).kept) <= {"last.0"}


def test_merging_beats_removing_the_same_units():
    """On layers whose units are copies of a few, with noise."""
    generator = torch.Generator().manual_seed(0)
    net = fill(nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))).double()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            of = torch.randint(0, 20, (64,), generator=generator)
            layer.weight.copy_(layer.weight[of] * (1 + 0.05 * torch.randn(64, 1, generator=generator)))
            layer.bias.copy_(layer.bias[of])
    x = images(200, 16).double()
    g = secateur.trace(net, x[:2])
    plan = NeuronMerging().plan(g, secateur.Budget(params=0.3))
    merged, removed, ranked = (
        difference(run(net, x), run(secateur.cut(g, p).model, x))
        for p in (plan, Plan.keeping(g, plan.kept), secateur.methods()["l2"]().plan(g, secateur.Budget(params=0.3)))
    )
    assert merged < 0.25 * min(removed, ranked)
