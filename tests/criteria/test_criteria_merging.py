"""Saliency of merging: its closed form, its bound, its update, and where it says to stop."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import fill, graph, images
from secateur.criteria.merging import Saliency, Step, compare, cutoff, saliency_of, turns, until_cutoff
from secateur.evidence.base import Evidence
from secateur.groups.plan import Keep, Merge, Plan

GENERATOR = torch.Generator().manual_seed(3)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def saliency(rows, columns, **options):
    return Saliency(rows, columns @ columns.T, columns.shape[1], **options)


def by_hand(rows, columns, scaled=False):
    """s_ij = <a_j^2> |w_i - c w_j|^2, number by number."""
    units = len(rows)
    found = torch.full((units, units), math.inf, dtype=torch.float64)
    for i in range(units):
        for j in range(units):
            if i != j:
                c = max(0.0, float(rows[i] @ rows[j] / (rows[i] @ rows[i]))) if scaled else 1.0
                found[i, j] = (columns[j] ** 2).mean() * ((rows[j] - c * rows[i]) ** 2).sum()
    return found


@pytest.mark.parametrize("scaled", [False, True])
def test_the_matrix_is_the_formula(scaled):
    rows, columns = random(9, 5), random(9, 4)
    torch.testing.assert_close(saliency(rows, columns, scaled=scaled).matrix, by_hand(rows, columns, scaled))


def test_it_says_what_goes_and_is_not_symmetric():
    """The weights that read the unit that goes count, not those of the one that stays."""
    rows, columns = torch.tensor([[0.0], [3.0]], dtype=torch.float64), torch.tensor([[1.0, 1.0], [2.0, 0.0]]).double()
    assert saliency(rows, columns).matrix.tolist() == [[math.inf, 18.0], [9.0, math.inf]]


def test_the_scaled_variant_takes_the_best_factor_that_is_not_negative():
    rows = random(6, 4)
    factors, distances = compare(rows, scaled=True)
    tried = torch.linspace(0, 4, 8001, dtype=torch.float64)
    for i in range(6):
        for j in range(6):
            each = ((rows[j] - tried[:, None] * rows[i]) ** 2).sum(1)
            assert distances[i, j] <= each.min() + 1e-12
            assert each.min() - distances[i, j] < 1e-4
    assert (factors >= 0).all()
    assert (factors == 0).any()


def test_equal_units_cost_nothing():
    rows, columns = random(7, 300) * 1e3, random(7, 40)
    rows[4] = rows[1]
    matrix = saliency(rows, columns).matrix
    assert matrix[1, 4] == matrix[4, 1] == 0
    assert (matrix == 0).sum() == 2


def test_scaled_units_cost_nothing_beside_others():
    rows, columns = random(7, 300), random(7, 40)
    rows[4], rows[5] = 0.3 * rows[1], -0.3 * rows[2]
    held = saliency(rows, columns, scaled=True)
    others = held.matrix[held.matrix.isfinite()].median()
    assert max(held.matrix[1, 4], held.matrix[4, 1]) < 1e-25 * others
    assert held.matrix[2, 5] > 1e-3 * others  # no positive factor makes one of the other
    assert math.isclose(held.factors[1, 4], 0.3)


def test_units_that_nothing_reads_cost_nothing():
    rows, columns = random(7, 5), random(7, 4)
    columns[3] = 0
    matrix = saliency(rows, columns).matrix
    assert (matrix[[0, 1, 2, 4, 5, 6], 3] == 0).all()
    assert (matrix == 0).sum() == 6


def test_removing_a_small_unit_is_merging_it_into_one_that_is_zero():
    rows, columns = random(7, 5), random(7, 4)
    rows[2] = 0
    for scaled in (False, True):
        matrix = saliency(rows, columns, scaled=scaled).matrix
        removal = (columns**2).mean(1) * (rows**2).sum(1)
        others = [0, 1, 3, 4, 5, 6]
        torch.testing.assert_close(matrix[2, others], removal[others])


def test_near_units_are_told_apart_exactly():
    """A difference of products would have lost all figures."""
    rows, step = random(2, 50), 1e-9
    rows[1] = rows[0]
    rows[1, 7] += step
    exact = (Fraction(float(rows[1, 7])) - Fraction(float(rows[0, 7]))) ** 2
    assert math.isclose(compare(rows)[1][0, 1], float(exact), rel_tol=1e-12)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kin", [None, torch.tensor([0, 1, 0, 1, 1, 0, 1, 0, 1, 2])])
def test_the_matrix_after_merges_is_the_matrix_of_merged_weights(scaled, kin):
    rows, columns = random(10, 6), random(10, 4)
    rows[8] = rows[3]
    held = saliency(rows, columns, scaled=scaled, kin=kin)
    left = list(range(10))
    while (step := held.lowest()) is not None:
        again = saliency(rows[left], columns[left], scaled=scaled, kin=None if kin is None else kin[left]).matrix
        torch.testing.assert_close(held.matrix[left][:, left], again, rtol=1e-10, atol=1e-12)
        assert step.saliency == held.matrix.min() == held.matrix[step.into, step.unit]
        before = held.matrix.clone()
        held.merge(step)
        changed = ((held.matrix != before) & left_after(left, step.unit)).nonzero()[:, 1].unique().tolist()
        assert changed in ([], [step.into])  # no other column than that of the unit that took over
        left.remove(step.unit)
        columns = columns.clone()
        columns[step.into] += step.factor * columns[step.unit]
    assert held.matrix.isinf().all()
    assert len(left) == (1 if kin is None else 3)


def left_after(left, unit):
    stays = torch.zeros(10, dtype=torch.bool)
    stays[left] = True
    stays[unit] = False
    return stays[:, None] & stays


def test_the_order_is_that_of_the_smallest_entry_each_time():
    rows, columns = random(12, 3), random(12, 4)
    found, left, given = list(saliency(rows, columns).steps()), list(range(12)), columns.clone()
    for step in found:
        matrix = by_hand(rows[left], given[left])
        into, unit = divmod(int(matrix.argmin()), len(left))
        assert (step.unit, step.into, step.factor) == (left[unit], left[into], 1.0)
        assert math.isclose(step.saliency, matrix.min(), rel_tol=1e-9)
        given[step.into] += given[step.unit]
        left.remove(step.unit)
    assert len(found) == 11


def test_what_is_given_is_not_touched():
    rows, columns = random(5, 3), random(5, 4)
    outgoing = columns @ columns.T
    held = (rows.clone(), outgoing.clone())
    list(Saliency(rows, outgoing, 4).steps())
    assert torch.equal(rows, held[0])
    assert torch.equal(outgoing, held[1])


def test_degenerate_units_give_numbers():
    for scaled in (False, True):
        steps = list(saliency(torch.zeros(4, 3).double(), torch.zeros(4, 2).double(), scaled=scaled).steps())
        assert [s.saliency for s in steps] == [0, 0, 0]
    assert saliency(random(1, 3), random(1, 2)).lowest() is None


def test_of_a_group_it_is_the_formula_on_folded_rows_and_all_columns():
    g = graph("mlpnorm")
    linear, norm, _, out = g.model
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = norm.bias + scale * (linear.bias - norm.running_mean)
    rows = torch.cat([scale[:, None] * linear.weight, bias[:, None]], 1).detach().double()
    expected = by_hand(rows, out.weight.detach().T.double())
    torch.testing.assert_close(saliency_of(g["0"], Evidence(g.model)).matrix, expected, rtol=1e-5, atol=1e-7)


def test_all_that_read_a_group_count():
    g = graph("named")
    columns = torch.cat([g.model.out.weight, g.model.other.weight]).T.detach().double()
    rows = torch.cat([g.model.hidden.weight, g.model.hidden.bias[:, None]], 1).detach().double()
    found = saliency_of(g["hidden"], Evidence(g.model)).matrix
    torch.testing.assert_close(found, by_hand(rows, columns), rtol=1e-10, atol=1e-12)


def test_a_flattened_channel_is_read_by_several_columns():
    g = graph("flat")
    columns = g.model.hidden.weight.detach().double().reshape(11, 5, 16).movedim(1, 0).reshape(5, -1)
    rows = torch.cat([g.model.two.weight.flatten(1), g.model.two.bias[:, None]], 1).detach().double()
    found = saliency_of(g["two"], Evidence(g.model)).matrix
    torch.testing.assert_close(found, by_hand(rows, columns), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.Identity, nn.LeakyReLU])
def test_the_bound(act):
    """Mean over outputs of the squared change <= <a_j^2> |w_i - w_j|^2 |x, 1|^2, input by input."""
    net = fill(nn.Sequential(nn.Linear(6, 8), act(), nn.Linear(8, 5))).double()
    g = secateur.trace(net, images(2, 6).double())
    matrix, x = saliency_of(g["0"], Evidence(net)).matrix, random(200, 6)
    tightest = 0.0
    for into in range(8):
        for unit in set(range(8)) - {into}:
            keep = Keep(group="0", units=tuple(u for u in range(8) if u != unit))
            small = secateur.cut(
                g, Plan(edits=(keep, Merge(group="0", units=(unit,), into=(into,)))), verify="off"
            ).model
            with torch.no_grad():
                moved = (net(x) - small(x)).square().mean(1)
            bound = matrix[into, unit] * (x.square().sum(1) + 1)
            assert (moved <= bound * (1 + 1e-9)).all()
            tightest = max(tightest, float((moved / bound).max()))
    assert tightest > 0.2


@pytest.mark.parametrize("middle", [-20.0, 0.0, 3.0])
def test_the_cut_off_is_the_mode_of_a_gaussian(middle):
    rng = np.random.default_rng(0)
    values = np.exp(middle + 0.5 * rng.standard_normal(2000))
    assert abs(math.log(cutoff(values)) - middle) < 0.1
    tail = np.exp(middle + 6 + 2 * rng.standard_normal(300))  # dear ones at the end move it little
    assert abs(math.log(cutoff([*values, *tail])) - middle) < 0.1
    for free in (np.zeros(900), values[:900] * 1e-25):  # nor do those that cost nothing
        assert math.isclose(cutoff([*free, *values]), cutoff(values), rel_tol=1e-6)


def test_where_most_cost_least_the_mode_is_inside_of_what_they_cost():
    logs = np.random.default_rng(2).exponential(size=400)
    assert 0.2 < math.log(cutoff(np.exp(logs))) < 0.8


def test_the_cut_off_hangs_on_neither_scale_nor_order():
    values = np.exp(np.random.default_rng(1).standard_normal(60)).tolist()
    assert math.isclose(cutoff([1e-12 * v for v in values]), 1e-12 * cutoff(values), rel_tol=1e-4)
    assert math.isclose(cutoff(values[::-1]), cutoff(values), rel_tol=1e-12)
    assert min(values) <= cutoff(values) <= max(values)


@pytest.mark.parametrize(("values", "expected"), [([2.0], 2.0), ([0.0, 0.0, 0.0], 0.0), ([3.0, 3.0, 3.0, 3.0], 3.0)])
def test_the_cut_off_of_values_without_a_spread_is_their_median(values, expected):
    assert cutoff(values) == expected


def test_a_step_is_plain_data():
    assert Step(3, 1, 1.0, 0.5)._asdict() == {"unit": 3, "into": 1, "factor": 1.0, "saliency": 0.5}


def steps(*saliencies):
    return [Step(unit, 99, 1.0, s) for unit, s in enumerate(saliencies)]


def test_a_group_stops_at_the_first_merge_above_its_cut_off():
    held = steps(0.0, 1.0, 9.0, 1.0, 1.1, 0.9, 8.0, 9.0)
    assert 1.0 <= cutoff([s.saliency for s in held]) < 8.0
    assert until_cutoff(held) == held[:2]
    assert until_cutoff([]) == []
    assert until_cutoff(held[:1]) == held[:1]


def test_it_is_the_turn_of_the_group_whose_next_merge_is_cheapest():
    first, second = steps(5.0, 1.0, 6.0), steps(30.0, 40.0, 55.0)
    assert turns([first, second], [1.0, 10.0]).tolist() == [1, 1, 0, 0, 1, 0]
    assert turns([first, second], [1.0, 1e-9]).tolist() == [0, 0, 0, 1, 1, 1]
    assert turns([first, [], first], [1.0, 1.0, 1.0]).tolist() == [0, 0, 2, 2, 0, 2]
    assert turns([], []).tolist() == []
