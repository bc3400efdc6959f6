"""Small panels: points at their values, one axis for all."""

from xml.etree import ElementTree

import pytest

from secateur.report.curves import BOTTOM, LEFT, RIGHT, TOP, Curve, axis, panel

A = Curve("a", (0.2, 0.5), (10.0, 60.0), 0.5)
B = Curve("b", (0.2, 0.5), (90.0, 95.0))


def drawn(curve, dense=90.0, beside=(A, B)):
    return ElementTree.fromstring(panel(curve, dense, axis(beside, dense), label="a panel", unit=" %"))


def of_class(svg, name):
    return [e for e in svg.iter() if name in (e.get("class") or "").split()]


def test_points_are_at_their_values_and_end_at_the_whole_model():
    svg, y = drawn(A), axis((A, B), 90.0)
    marks = of_class(svg, "mark")
    across = [LEFT + (RIGHT - LEFT) * r for r in (0.2, 0.5, 1.0)]
    assert [float(m.get("cx")) for m in marks] == pytest.approx(across, abs=0.01)
    assert [float(m.get("cy")) for m in marks] == pytest.approx([y(10), y(60), y(90)], abs=0.01)
    assert [m[0].text for m in marks] == ["a, 20 % kept: 10 %", "a, 50 % kept: 60 %", "a, 100 % kept: 90 %"]
    (line,) = of_class(svg, "join")
    assert len(line.get("points").split()) == 3
    (dense,) = of_class(svg, "dense")
    assert float(dense.get("y1")) == float(dense.get("y2")) == pytest.approx(y(90), abs=0.01)


def test_the_chosen_ratio_is_larger_and_none_where_all_stays():
    radii = [float(m.get("r")) for m in of_class(drawn(A), "mark")]
    assert radii[1] > radii[0] == radii[2]
    assert len({m.get("r") for m in of_class(drawn(B), "mark")}) == 1
    whole = Curve("c", (0.2, 0.5), (10.0, 60.0), 1.0)
    radii = [float(m.get("r")) for m in of_class(drawn(whole), "mark")]
    assert radii[2] > radii[0] == radii[1]


def test_a_ratio_of_one_is_no_second_point():
    svg = drawn(Curve("d", (0.5, 1.0), (60.0, 90.0)))
    assert len(of_class(svg, "mark")) == 2


def test_all_panels_have_one_axis_that_holds_all():
    y = axis((A, B), 99.0)
    assert y.low <= 10
    assert y.high >= 99
    assert (y(y.low), y(y.high)) == (BOTTOM, TOP)
    grids = [[e.get("y1") for e in of_class(drawn(c), "grid")] for c in (A, B)]
    assert grids[0] == grids[1]


def test_values_that_are_all_the_same_have_an_axis():
    flat = Curve("flat", (0.5,), (3.0,))
    y = axis((flat,), 3.0)
    assert y.low < 3.0 < y.high
    assert axis((), 3.0).low < 3.0
