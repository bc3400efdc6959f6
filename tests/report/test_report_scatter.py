"""The scatter puts marks at their ranks."""

from xml.etree import ElementTree

import pytest

from secateur.report import scatter as module
from secateur.report.scatter import BOTTOM, LEFT, RIGHT, TOP, Mark, scatter


def drawn(values, **options):
    marks = [Mark(f"unit {i}", score, change) for i, (score, change) in enumerate(values)]
    made = scatter(marks, series=3, label="a picture", upwards="rank by loss", **options)
    return ElementTree.fromstring(made)


def dots(svg):
    return [e for e in svg.iter() if "dot" in (e.get("class") or "").split()]


def across(rank, most):
    return LEFT + (RIGHT - LEFT) * rank / most


def up(rank, most):
    return BOTTOM + (TOP - BOTTOM) * rank / most


def test_marks_are_at_their_ranks():
    found = dots(drawn([(0.5, 30.0), (-2.0, 10.0), (9.0, 20.0), (0.6, 40.0)]))
    expected = [(2, 3), (1, 1), (4, 2), (3, 4)]
    for dot, (x, y) in zip(found, expected, strict=True):
        assert float(dot.get("cx")) == pytest.approx(across(x, 4), abs=0.01)
        assert float(dot.get("cy")) == pytest.approx(up(y, 4), abs=0.01)
        assert dot.get("class") == "dot s3"
    assert [d[0].text for d in found] == [f"unit {i}" for i in range(4)]


def test_equal_values_share_the_mean_of_their_ranks():
    found = dots(drawn([(1.0, 5.0), (1.0, 5.0), (2.0, 5.0)]))
    assert [float(d.get("cx")) for d in found] == pytest.approx([across(r, 3) for r in (1.5, 1.5, 3)], abs=0.01)
    assert len({d.get("cy") for d in found}) == 1


def test_agreement_lies_on_the_dashed_line():
    svg = drawn([(float(i), float(i) ** 2) for i in range(37)])
    (line,) = (e for e in svg.iter() if e.get("class") == "dense")
    x1, y1, x2, y2 = (float(line.get(k)) for k in ("x1", "y1", "x2", "y2"))
    assert (x2, y2) == (RIGHT, TOP)
    for dot in dots(svg):
        x, y = float(dot.get("cx")), float(dot.get("cy"))
        assert (y - y1) * (x2 - x1) == pytest.approx((x - x1) * (y2 - y1), abs=5)


def test_all_is_inside_whatever_the_number_of_units():
    for count in (0, 1, 2, 3, 99, 324):
        svg = drawn([(float(i), 1.0) for i in range(count)])
        assert len(dots(svg)) == count
        for dot in dots(svg):
            assert LEFT <= float(dot.get("cx")) <= RIGHT
            assert TOP <= float(dot.get("cy")) <= BOTTOM
        ticks = [float(e.get("x")) for e in svg.iter() if e.get("text-anchor") == "middle"]
        assert all(LEFT <= x <= RIGHT + 0.01 for x in ticks)


def test_of_many_marks_none_says_what_it_is(monkeypatch):
    monkeypatch.setattr(module, "TOLD", 2)
    assert all(len(d) == 0 for d in dots(drawn([(1.0, 1.0), (2.0, 2.0), (3.0, 1.0)])))


def test_names_are_text():
    svg = scatter([Mark("<b>&", 1.0, 1.0)], series=0, label='"<i>"', upwards="<u>")
    assert "<b>" not in svg
    assert ElementTree.fromstring(svg).get("aria-label") == '"<i>"'
