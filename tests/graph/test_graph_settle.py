"""Ints that a forward states follow every cut, or freeze what they decide."""

import itertools
import signal

import numpy as np
import pytest

from secateur.graph.labels import Labels
from secateur.graph.provenance import Apply, Attribute, Size, axes_in, evaluate
from secateur.graph.record import HEAD, Need, restated
from secateur.graph.settle import settle

WIDTH, HEADS, OTHER = Attribute("", "width"), Attribute("", "heads"), Attribute("block", "other")


def need(source, axis):
    return Need(source, axis, "here", "a size given to view")


def times(a, b):
    return Apply("mul", (a, b))


def over(a, b):
    return Apply("floordiv", (a, b))


@pytest.fixture(autouse=True)
def an_end():
    """A loop that does not end must not stop the tests."""

    def ring(*_):
        raise TimeoutError("settle does not end")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def settled(labels, needs, attributes, pinned=None, heads=()):
    """Classes, freezes and owners, once it is seen that after each of all cuts each need holds."""
    roles = np.zeros(labels.count, dtype=np.int8)
    for axis in heads:
        roles[axis] |= HEAD
    classes, frozen, owners = settle(labels, needs, pinned or {}, attributes, roles)
    open_ = sorted(set(classes.tolist()) - {int(classes[0]), *frozen})
    assert len(open_) <= 12
    for bits in itertools.product([True, False], repeat=len(open_)):
        alive = np.ones(int(classes.max()) + 1, dtype=bool)
        alive[open_] = bits

        def kept(axis, alive=alive):
            return int(alive[classes[axis]].sum())

        values = restated(owners, attributes, kept)
        if all(kept(axis) for n in needs for axis in (n.axis, *axes_in(n.source))):
            assert all(evaluate(n.source, values, kept) == kept(n.axis) for n in needs), bits
            assert all(values[a] == attributes[a] for a in pinned or ())
        if all(bits):
            assert values == attributes
    return classes, frozen, owners


def is_free(classes, frozen, axis):
    return not set(classes[axis].tolist()) & {int(classes[0]), *frozen}


def test_an_attribute_counts_the_axis_it_decides():
    labels = Labels()
    axis = labels.fresh(6)
    classes, frozen, owners = settled(labels, [need(WIDTH, axis)], {WIDTH: 6})
    assert is_free(classes, frozen, axis)
    assert owners[WIDTH].axis is axis


def test_one_attribute_for_two_axes_ties_them():
    labels = Labels()
    a, b = labels.fresh(6), labels.fresh(6)
    classes, frozen, _ = settled(labels, [need(WIDTH, a), need(WIDTH, b)], {WIDTH: 6})
    assert classes[a].tolist() == classes[b].tolist()
    assert is_free(classes, frozen, a)


def test_one_attribute_for_a_free_and_a_fixed_axis_freezes():
    labels = Labels()
    a = labels.fresh(6)
    classes, frozen, _ = settled(labels, [need(WIDTH, a), need(WIDTH, np.zeros(6, dtype=np.int64))], {WIDTH: 6})
    assert not is_free(classes, frozen, a)


def test_an_attribute_behind_a_multiple():
    labels = Labels()
    axis = labels.fresh(4)
    _, frozen, owners = settled(labels, [need(times(WIDTH, 4), axis.repeat(4))], {WIDTH: 4})
    assert (owners[WIDTH].times, owners[WIDTH].over) == (1, 4)
    assert set(frozen) == set()


@pytest.mark.parametrize("width", range(4, 13, 2))
def test_a_multiple_that_only_follows_every_other_cut_freezes(width):
    """attribute * 2 of single units: no attribute fits an odd number of them."""
    labels = Labels()
    axis = labels.fresh(width)
    classes, frozen, _ = settled(labels, [need(times(WIDTH, 2), axis)], {WIDTH: width // 2})
    assert not is_free(classes, frozen, axis)


@pytest.mark.parametrize("source", [times(WIDTH, 2), times(2, WIDTH), over(times(WIDTH, 4), 2)])
def test_an_attribute_behind_arithmetic(source):
    labels = Labels()
    axis = labels.fresh(3)
    classes, frozen, _ = settled(labels, [need(source, axis.repeat(2))], {WIDTH: 3})
    assert is_free(classes, frozen, axis)


def test_half_of_an_attribute():
    labels = Labels()
    axis = labels.fresh(3)
    classes, frozen, owners = settled(labels, [need(over(WIDTH, 2), axis)], {WIDTH: 6})
    assert (owners[WIDTH].times, owners[WIDTH].over) == (2, 1)
    assert is_free(classes, frozen, axis)


def test_half_of_an_odd_attribute_leaves_it_as_it_is():
    labels = Labels()
    axis = labels.fresh(3)
    classes, frozen, _ = settled(labels, [need(over(WIDTH, 2), axis)], {WIDTH: 7})
    assert not is_free(classes, frozen, axis)


def test_an_attribute_larger_than_what_it_bounds_stays():
    """x[:, :limit] of fewer than `limit` indices: no cut makes it hold, so that there is none."""
    labels = Labels()
    axis = labels.fresh(4)
    classes, frozen, owners = settle(labels, [need(WIDTH, axis)], {}, {WIDTH: 100}, np.zeros(labels.count, np.int8))
    assert not is_free(classes, frozen, axis)
    assert restated(owners, {WIDTH: 100}, lambda a: a.size) == {WIDTH: 100}


@pytest.mark.parametrize("source", ["attribute", "size"])
def test_an_expression_larger_than_what_it_bounds_freezes_it(source):
    """x[:, : n + 1], and the rest of x.split(n // 3)."""
    signal.setitimer(signal.ITIMER_REAL, 5)
    labels = Labels()
    axis = labels.fresh(4)
    bound = need(Apply("add", (WIDTH if source == "attribute" else Size(axis), 1)), axis)
    classes, frozen, _ = settle(labels, [bound], {}, {WIDTH: 4}, np.zeros(labels.count, dtype=np.int8))
    assert not is_free(classes, frozen, axis)


def test_an_attribute_that_decides_two_widths():
    labels = Labels()
    a, b = labels.fresh(6), labels.fresh(3)
    needs = [need(WIDTH, a), need(over(WIDTH, 2), b)]
    classes, frozen, _ = settled(labels, needs, {WIDTH: 6})
    assert not is_free(classes, frozen, a)
    assert not is_free(classes, frozen, b)
    assert {f.reason for f in frozen.values()} == {"a size given to view is computed in a way that a cut cannot follow"}


def test_an_attribute_that_decides_two_widths_that_go_together():
    """The second axis holds each of the first twice: what is computed comes out right in every cut."""
    labels = Labels()
    a = labels.fresh(4)
    classes, frozen, _ = settled(labels, [need(WIDTH, a), need(times(WIDTH, 2), a.repeat(2))], {WIDTH: 4})
    assert is_free(classes, frozen, a)


def test_a_pinned_attribute_freezes_what_it_decides():
    labels = Labels()
    a, b = labels.fresh(6), labels.fresh(4)
    needs = [need(WIDTH, a), need(OTHER, b)]
    classes, frozen, owners = settled(labels, needs, {WIDTH: 6, OTHER: 4}, pinned={WIDTH: "an argument of arange"})
    assert not is_free(classes, frozen, a)
    assert is_free(classes, frozen, b)
    assert frozen[int(classes[a[0]])].reason == "width decides it, and is an argument of arange besides"
    assert owners[WIDTH].axis.size == 6


def test_a_size_ties_what_it_decides():
    labels = Labels()
    a, b = labels.fresh(5), labels.fresh(5)
    classes, frozen, _ = settled(labels, [need(Size(a), b)], {})
    assert classes[a].tolist() == classes[b].tolist()
    assert is_free(classes, frozen, a)


@pytest.mark.parametrize("pairs", [1, 2, 7, 55])
def test_sizes_of_two_tie_what_they_decide(pairs):
    labels = Labels()
    axes = [(labels.fresh(2), labels.fresh(2)) for _ in range(pairs)]
    roles = np.zeros(labels.count, dtype=np.int8)
    classes, frozen, _ = settle(labels, [need(Size(a), b) for a, b in axes], {}, {}, roles)
    for a, b in axes:
        assert classes[a].tolist() == classes[b].tolist()
        assert is_free(classes, frozen, a)


@pytest.mark.parametrize("part", [[0, 1], [2, 3]])
def test_half_of_a_size_freezes(part):
    labels = Labels()
    axis = labels.fresh(4)
    classes, frozen, _ = settled(labels, [need(over(Size(axis), 2), axis[part])], {})
    assert not is_free(classes, frozen, axis)


def test_half_of_a_size_whose_halves_are_tied():
    labels = Labels()
    axis = labels.fresh(6)
    labels.unify(axis[:3], axis[3:], "")
    classes, frozen, _ = settled(labels, [need(over(Size(axis), 2), axis[:3])], {})
    assert is_free(classes, frozen, axis)


@pytest.mark.parametrize("heads", [2, 3])
def test_a_width_over_heads_loses_a_share_with_each_head(heads):
    labels = Labels()
    parts = labels.fresh(heads), labels.fresh(2)
    whole = labels.fresh(2 * heads)
    labels.product(whole, parts, "")
    needs = [need(HEADS, parts[0]), need(over(Size(whole), HEADS), parts[1])]
    classes, frozen, _ = settled(labels, needs, {HEADS: heads}, heads=[parts[0]])
    assert classes[whole].tolist() == classes[parts[0]].repeat(2).tolist()
    assert is_free(classes, frozen, parts[0])


def test_a_width_of_another_layer_over_heads_is_mended():
    """The width that is divided is tied to the heads, though no view says so."""
    labels = Labels()
    width, heads, size = labels.fresh(6), labels.fresh(3), labels.fresh(2)
    labels.freeze(size, "a scale", "")
    needs = [need(HEADS, heads), need(over(Size(width), HEADS), size)]
    classes, frozen, _ = settled(labels, needs, {HEADS: 3})
    assert classes[width].tolist() == classes[heads].repeat(2).tolist()
    assert is_free(classes, frozen, heads)


def test_the_one_attribute_that_nothing_else_decides_is_made_to_fit():
    """width - rest, where the width shrinks: the rest does."""
    labels = Labels()
    a, b = labels.fresh(4), labels.fresh(2)
    needs = [need(WIDTH, np.concatenate([a, b])), need(Apply("sub", (WIDTH, OTHER)), a)]
    classes, frozen, _ = settled(labels, needs, {WIDTH: 6, OTHER: 2})
    assert is_free(classes, frozen, a)


def test_division_by_what_a_cut_takes_away():
    labels = Labels()
    a, b = labels.fresh(2), labels.fresh(6)
    settled(labels, [need(over(times(Size(b), Size(a)), Size(a)), b)], {})
