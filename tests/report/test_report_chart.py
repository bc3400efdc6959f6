"""The chart puts marks where the numbers say."""

from xml.etree import ElementTree

import pytest

from secateur.report.chart import BOTTOM, TOP, Point, chart
from secateur.report.spread import Spread

DENSE = Spread.of([0.98, 0.99])


def drawn(points, dense=DENSE, **options):
    series = max((p.series for p in points), default=0) + 1
    return ElementTree.fromstring(chart(points, dense, series=series, label="a chart", **options))


def of_class(svg, name):
    return [e for e in svg.iter() if name in (e.get("class") or "").split()]


def axis(svg):
    """Pixel and value of the horizontal grid lines, as a function from percent to pixels."""
    lines = [float(e.get("y1")) for e in of_class(svg, "grid")]
    ticks = [float(e.text) for e in of_class(svg, "tick") if e.get("text-anchor") == "end"]
    (a, b), (c, d) = (ticks[0], lines[0]), (ticks[-1], lines[-1])
    return lambda value: b + (value - a) / (c - a) * (d - b)


def test_marks_bars_and_dots_are_at_their_values():
    spread = Spread.of([0.90, 0.92, 0.97])
    svg = drawn([Point(0, "l1", 0.5, spread)])
    y = axis(svg)
    (mark,) = of_class(svg, "mark")
    assert float(mark.get("cy")) == pytest.approx(y(100 * spread.mean), abs=0.02)
    assert [float(e.get("cy")) for e in of_class(svg, "seed")] == pytest.approx([y(90), y(92), y(97)], abs=0.02)
    stem = of_class(svg, "bar")[0]
    ends = [y(100 * (spread.mean + spread.sd)), y(100 * (spread.mean - spread.sd))]
    assert [float(stem.get(k)) for k in ("y1", "y2")] == pytest.approx(ends, abs=0.02)
    assert mark[0].text == "l1: 93.00 ± 3.61 %, seeds 90.00–97.00 %, n=3; MACs kept 50.0 %"


def test_one_seed_has_a_mark_and_no_bar():
    svg = drawn([Point(0, "l1", 0.5, Spread.of([0.9]))], Spread.of([0.98]))
    assert len(of_class(svg, "mark")) == 1
    assert not of_class(svg, "bar")
    assert not of_class(svg, "seed")
    assert not of_class(svg, "band")


def test_the_dense_model_is_a_line_a_band_and_a_point_at_all_macs():
    svg = drawn([Point(0, "l1", 0.5, Spread.of([0.9, 0.91]))])
    y = axis(svg)
    (line,), (band,), (point,) = (of_class(svg, c) for c in ("dense", "band", "whole"))
    assert float(line.get("y1")) == float(line.get("y2")) == pytest.approx(y(98.5), abs=0.02)
    top = y(100 * (DENSE.mean + DENSE.sd))
    assert float(band.get("y")) == pytest.approx(top, abs=0.02)
    hundred = next(e for e in of_class(svg, "tick") if e.text == "100" and e.get("text-anchor") == "middle")
    assert point.get("cx") == hundred.get("x")


def test_budgets_of_a_method_are_joined_but_not_with_a_dense_model():
    spread = Spread.of([0.9, 0.91])
    svg = drawn([Point(0, "l1", k, spread) for k in (0.7, 0.3, 1.0)])
    (join,) = of_class(svg, "join")
    places = [float(p.partition(",")[0]) for p in join.get("points").split()]
    assert len(places) == 2
    assert places == sorted(places)


def test_methods_at_one_budget_do_not_hide_each_other():
    points = [Point(i, str(i), 0.5, Spread.of([0.9, 0.91])) for i in (0, 7)]
    places = sorted(float(e.get("cx")) for e in of_class(drawn(points), "mark"))
    assert places[1] - places[0] > 10


def test_panels_side_by_side_have_one_vertical_axis():
    low, high = ([Point(0, "l1", 0.5, Spread.of([v, v]))] for v in (0.2, 0.9))
    assert axis(drawn(low, shared=high))(50) == axis(drawn(high, shared=low))(50)
    assert axis(drawn(low))(50) != axis(drawn(high))(50)


@pytest.mark.parametrize("dense", [DENSE, Spread.of([1.0, 1.0]), Spread.of([])])
@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [0.5, 0.5000001]])
def test_everything_stays_within_the_panel(dense, values):
    svg = drawn([Point(0, "l1", 0.5, Spread.of(values))] if values else [], dense)
    for element in (*of_class(svg, "mark"), *of_class(svg, "whole")):
        assert TOP <= float(element.get("cy")) <= BOTTOM
        assert 0 <= float(element.get("cx")) <= 360
    ticks = [float(e.text) for e in of_class(svg, "tick")]
    assert max(ticks) <= 100
