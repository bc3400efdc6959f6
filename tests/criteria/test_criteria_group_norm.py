"""Norms of all that goes with a unit, against sums over members written out."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import difference, run, tensors_of
from nets import graph
from secateur.criteria.base import CRITERIA
from secateur.criteria.group_norm import GroupNorm, shrinkage, slices
from secateur.errors import BadModel, BadOption
from secateur.evidence.base import Evidence
from secateur.testing import check_criterion


def raw(net, group, **options):
    g = graph(net)
    return GroupNorm(**options).score(g[group], Evidence(g.model)).numpy()


def parts(net):
    return {n: p.detach().double().numpy() for n, p in graph(net).model.named_parameters()}


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_writers_readers_and_scales_by_hand(p):
    w = parts("plain")
    expected = [
        (np.abs(w["one.0.weight"][k]) ** p).sum()
        + (np.abs(w["two.0.weight"][:, k]) ** p).sum()
        + np.abs(w["one.1.weight"][k]) ** p
        for k in range(8)
    ]
    np.testing.assert_allclose(raw("plain", "one.0", p=p), expected, rtol=1e-12)


def test_shifts_and_biases_do_not_count():
    w = parts("nonorm")
    expected = (w["one.weight"] ** 2).sum((1, 2, 3)) + (w["two.weight"] ** 2).sum((0, 2, 3))
    np.testing.assert_allclose(raw("nonorm", "one"), expected, rtol=1e-12)


def test_a_unit_may_hold_several_columns():
    """Each channel of the last convolution becomes sixteen inputs of the linear layer."""
    w = parts("flat")
    expected = (w["two.weight"] ** 2).sum((1, 2, 3)) + (w["hidden.weight"].reshape(11, 5, 16) ** 2).sum((0, 2))
    np.testing.assert_allclose(raw("flat", "two"), expected, rtol=1e-12)


def test_the_sum_is_over_all_members():
    """Additive: the score of a group is the sum over its slices, and all scores together hold each weight once."""
    g = graph("padded")
    group, evidence = g["stem.0"], Evidence(g.model)
    each = slices(group, evidence)
    assert set(each) == {
        ("stem.0.weight", 0), ("stem.1.weight", 0), ("a.0.weight", 1),
        ("b.0.weight", 0), ("b.1.weight", 0), ("head.linear.weight", 1),
    }  # fmt: skip
    np.testing.assert_allclose(GroupNorm().score(group, evidence), sum(each.values()), rtol=1e-12)
    w = parts("padded")
    assert each["a.0.weight", 1].sum().item() == pytest.approx((w["a.0.weight"] ** 2).sum())


def test_a_weight_that_reads_what_it_writes_has_two_slices():
    w = parts("tied")
    both = (w["b.weight"] ** 2).sum(1) + (w["b.weight"] ** 2).sum(0)
    expected = both + (w["a.weight"] ** 2).sum(1) + (w["d.weight"] ** 2).sum(0)
    np.testing.assert_allclose(raw("tied", "a"), expected, rtol=1e-12)


def test_the_mean_forgets_the_scale_of_a_member():
    g = graph("plain")
    other = copy.deepcopy(g.model)
    other.two[0].weight.data *= 1000
    scaled = secateur.trace(other, g.example)
    by_mean = [secateur.score(x, GroupNorm("mean"))["one.0"].argsort().tolist() for x in (g, scaled)]
    by_sum = [secateur.score(x, GroupNorm("sum"))["one.0"].argsort().tolist() for x in (g, scaled)]
    assert by_mean[0] == by_mean[1]
    assert by_sum[0] != by_sum[1]


def test_other_reductions_over_the_members():
    """Each member's sum of squares, as it is: written, read and scaled."""
    w = parts("plain")
    each = np.stack([
        (w["one.0.weight"] ** 2).sum((1, 2, 3)), (w["two.0.weight"] ** 2).sum((0, 2, 3)), w["one.1.weight"] ** 2,
    ])  # fmt: skip
    for reduction, expected in {
        "max": each.max(0), "min": each.min(0), "prod": each.prod(0), "l2": np.sqrt((each**2).sum(0)),
    }.items():  # fmt: skip
        np.testing.assert_allclose(raw("plain", "one.0", reduction=reduction), expected, rtol=1e-12, err_msg=reduction)


def test_a_first_member_is_none():
    with pytest.raises(BadOption, match="reduction='first'"):
        CRITERIA.configured("group-norm", {"reduction": "first"})
    with pytest.raises(BadOption, match=r"reduction='first': .* has no first"):
        GroupNorm("first")


def test_layer_norms_scale_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)

        def forward(self, x):
            return self.b(self.norm(self.a(x)))

    g = secateur.trace(Net(), torch.zeros(2, 3))
    assert set(slices(g["a"], Evidence(g.model))) == {("a.weight", 0), ("norm.weight", 0), ("b.weight", 1)}


def test_removing_units_of_no_norm_changes_nothing():
    g = graph("digits-resnet")
    model = copy.deepcopy(g.model)
    held, gone = tensors_of(model), {x.name: [0, x.size - 1] for x in g.groups}
    for group in g.groups:
        for member in group.members:
            if member.role in ("in", "out") or member.tensor.endswith("weight"):
                index = torch.from_numpy(member.index[gone[group.name]].reshape(-1))
                held[member.tensor].detach().index_fill_(member.axis, index, 0.0)
    dead = secateur.trace(model, g.example)
    scores = secateur.score(dead, "group-norm")
    for name, units in gone.items():
        assert sorted(scores[name].argsort()[:2].tolist()) == units
        assert (scores[name][units] == 0).all()
    plan = secateur.Plan.keeping(dead, {n: range(1, dead[n].size - 1) for n in gone})
    assert difference(run(model, g.example), run(secateur.cut(dead, plan).model, g.example)) < 1e-12


def test_it_prunes_what_l2_of_the_writers_would_keep():
    """A unit whose readers are near zero is cheap, however large its own weights."""
    net = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3))
    net[0].weight.data = torch.tensor([[1.0], [1.1], [1.2], [1.5]]).repeat(1, 6)
    net[2].weight.data = torch.tensor([[3.0, 3.0, 3.0, 0.01]]).repeat(3, 1)
    g = secateur.trace(net, torch.zeros(1, 6))
    assert secateur.score(g, "l2")["0"].argmin() == 0
    assert secateur.score(g, "group-norm")["0"].argmin() == 3


@pytest.mark.parametrize("p", [0.0, -1.0, float("inf"), float("nan")])
def test_powers_that_make_no_sense(p):
    with pytest.raises(BadOption, match="p="):
        GroupNorm(p=p)


class Joined(nn.Module):
    """A weight that is two in one."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(nn.functional.linear(x, torch.cat([self.left.weight, self.right.weight])).relu())


def test_a_weight_that_is_computed_from_several_is_refused():
    g = secateur.trace(Joined(), torch.zeros(1, 3))
    for criterion in ("l2", "group-norm"):
        with pytest.raises(BadModel, match="computed from others"):
            secateur.score(g, criterion)


@pytest.mark.parametrize("alpha", [4.0, 1.0])
def test_shrinkage_is_bounded_and_falls_with_importance(alpha):
    importance = torch.tensor([0.3, 7.0, 0.1, 2.0, 7.0], dtype=torch.float64)
    found = shrinkage(importance, alpha)
    assert found.min() == 1
    assert found.max() == 2**alpha
    assert (found[importance.argsort()].diff() <= 0).all()
    assert found[importance.argmin()] == 2**alpha
    assert (found[[1, 4]] == 1).all()


def test_shrinkage_of_units_that_are_alike():
    assert (shrinkage(torch.full((3,), 0.7)) == 1).all()
    assert (shrinkage(torch.zeros(4, dtype=torch.float64)) == 1).all()
    assert torch.isfinite(shrinkage(torch.tensor([1.0, 1.0 + 1e-7]))).all()


def test_the_gradient_of_the_penalty_with_shrinkage_held():
    """R = sum of gamma_k I_k: by finite differences 2 gamma_k w, for a writer, a reader and a scale."""
    g = graph("plain")
    model = copy.deepcopy(g.model).double()
    group = secateur.trace(model, g.example.double())["one.0"]
    gamma = shrinkage(GroupNorm().score(group, Evidence(model)))

    def penalty():
        return (gamma * GroupNorm().score(group, Evidence(model))).sum().item()

    for name, at, unit in (
        ("one.0.weight", (3, 0, 1, 2), 3),
        ("two.0.weight", (5, 6, 0, 0), 6),
        ("one.1.weight", (1,), 1),
    ):
        weight = model.get_parameter(name).data
        value, step, ends = weight[at].item(), 1e-4, []
        for sign in (1, -1):
            weight[at] = value + sign * step
            ends.append(penalty())
        weight[at] = value
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(2 * gamma[unit].item() * value, rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_contract(reduction):
    check_criterion(GroupNorm(reduction))
