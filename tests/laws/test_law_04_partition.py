"""Law 4: groups partition the prunable slices: each exactly once."""

import numpy as np
import pytest

from held import difference, run, tensors_of
from nets import ALL, HAND, OURS, graph
from secateur.graph.record import IN, OUT
from secateur.testing import permuted


def holders(g):
    """(tensor, axis) -> how many members hold each position."""
    shapes = {n: t.shape for n, t in tensors_of(g.model).items()}
    count = {(n, d): np.zeros(size, dtype=int) for n, shape in shapes.items() for d, size in enumerate(shape)}
    for group in g.groups:
        for member in group.members:
            assert member.index.shape[0] == group.size
            np.add.at(count[member.tensor, member.axis], member.index, 1)
    return count


@pytest.mark.parametrize("name", ALL)
def test_no_position_of_any_axis_is_held_twice(name):
    assert all((count <= 1).all() for count in holders(graph(name)).values())


@pytest.mark.parametrize("name", ALL)
def test_what_no_group_holds_is_frozen_with_a_reason_or_never_written(name):
    g = graph(name)
    classes, roles = g.trace.classes, np.zeros(int(g.trace.classes.max()) + 1, dtype=int)
    np.bitwise_or.at(roles, classes, g.trace.roles)
    for (tensor, axis), count in holders(g).items():
        for label in g.trace.tensors[tensor][axis][count == 0]:
            c = classes[label]
            assert c in g.trace.frozen or not roles[c] & OUT or not roles[c] & IN, (tensor, axis)


@pytest.mark.parametrize("name", ALL)
def test_what_is_frozen_is_in_no_group(name):
    g = graph(name)
    held = np.concatenate([x.classes for x in g.groups]) if g.groups else np.zeros(0, dtype=int)
    assert np.unique(held).size == held.size
    assert not set(held.tolist()) & set(g.trace.frozen)
    assert all(f.reason for f in g.frozen)
    names = [x.name for x in (*g.groups, *g.frozen)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ALL)
def test_units_are_numbered_as_the_first_parameter_holds_them(name):
    g = graph(name)
    order = {n: i for i, n in enumerate(g.trace.tensors)}
    for group in g.groups:
        first = min(group.members, key=lambda m: (order[m.tensor], m.axis))
        starts = first.index[:, 0]
        assert (np.diff(starts) > 0).all(), group.name


@pytest.mark.parametrize("name", HAND | OURS)
def test_units_are_interchangeable(name):
    """The units of a group, moved all together to other places, leave the function as it is: no slice is missing."""
    g = graph(name)
    other, orders = permuted(g, seed=1)
    assert any((order.diff() < 0).any() for order in orders.values())
    assert difference(run(g.model, g.example), run(other, g.example)) < 1e-9
