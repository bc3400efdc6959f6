"""Two plan files side by side."""

import pytest

from secateur.errors import PlanError
from secateur.groups.difference import Difference, costs, difference, edited
from secateur.groups.plan_file import Line, PlanFile


def file(about=None, **lines):
    groups = {n: Line(kind="channel", size=len(order), keep=keep, order=order) for n, (keep, order) in lines.items()}
    return PlanFile(about=about or {}, groups=groups)


def test_group_by_group():
    a = file(one=(2, (0, 1, 2, 3)), two=(1, (0, 1)), first=(1, (1, 0)))
    b = file(one=(3, (3, 2, 1, 0)), two=(1, (0, 1)), second=(2, (1, 0)))
    rows = difference(a, b)
    assert rows == (
        Difference("one", 4, 2, 3, 1),
        Difference("two", 2, 1, 1, 1),
        Difference("first", 2, 1, None, 1),
        Difference("second", 2, None, 2, 2),
    )
    assert [row.same for row in rows] == [False, True, False, True]


def test_units_that_are_others_are_a_difference_of_equal_widths():
    (row,) = difference(file(one=(1, (0, 1))), file(one=(1, (1, 0))))
    assert (row.a, row.b, row.shared, row.same) == (1, 1, 0, False)


def test_plans_of_different_models():
    with pytest.raises(PlanError, match="'one' is 2 channels in the first plan and 3 channels in the second"):
        difference(file(one=(1, (0, 1))), file(one=(1, (0, 1, 2))))


def test_costs_that_both_state():
    stated = {"cost": {"after": {"macs": 10, "params": 3}}}
    assert costs(file(stated), file({"cost": {"after": {"macs": 7}}})) == {"macs": (10, 7)}
    for other in ({}, {"cost": 5}, {"cost": {"after": "much"}}, {"cost": {"after": {"macs": "7"}}}):
        assert costs(file(stated), file(other)) == {}


def test_an_edited_file_states_nothing():
    stated = {"cost": {"after": {"macs": 10}, "of": {"one": 1}}}
    as_it_was, wider = file(stated, one=(1, (0, 1))), file(stated, one=(2, (0, 1)))
    assert (edited(as_it_was), edited(wider), edited(file({"cost": {"after": {"macs": 10}}}))) == (False, True, False)
    assert costs(as_it_was, as_it_was) == {"macs": (10, 10)}
    assert costs(as_it_was, wider) == costs(wider, as_it_was) == {}
