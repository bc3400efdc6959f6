"""Bars are as long as the widths say."""

from xml.etree import ElementTree

import pytest

from secateur.report.bars import bars
from secateur.report.spread import Spread
from secateur.report.summary import Width

WIDTHS = [Width("conv1", 16, Spread.of([16, 16])), Width("layer1.conv2", 64, Spread.of([20, 28]))]


def of_class(svg, name):
    return [e for e in svg.iter() if name in (e.get("class") or "").split()]


def drawn(widths, **options):
    return ElementTree.fromstring(bars(widths, series=1, label="widths", **options))


def lengths(svg, name):
    return [float(e.get("width")) for e in of_class(svg, name)]


def test_lengths_are_in_proportion():
    svg = drawn(WIDTHS)
    unit = lengths(svg, "before")[1] / 64
    assert lengths(svg, "before") == pytest.approx([16 * unit, 64 * unit], abs=0.02)
    assert lengths(svg, "after") == pytest.approx([16 * unit, 24 * unit], abs=0.02)
    (span,) = of_class(svg, "range")
    assert float(span.get("x2")) - float(span.get("x1")) == pytest.approx(8 * unit, abs=0.02)


def test_numbers_stand_beside_the_bars():
    texts = ["".join(e.itertext()) for e in of_class(drawn(WIDTHS), "tick")]
    assert "16 → 16" in texts
    assert "64 → 24.0 (20–28)" in texts


def test_pictures_to_be_compared_have_one_scale():
    wide = [Width("a.very.long.name.of.a.layer", 256, Spread.of([100, 120]))]
    unit = lengths(drawn(wide, beside=WIDTHS), "before")[0] / 256
    assert lengths(drawn(WIDTHS, beside=wide), "before") == pytest.approx([16 * unit, 64 * unit], abs=0.02)


def test_a_long_name_is_shortened_and_kept_whole_as_its_title():
    name = "model.layers.11.self_attn.k_proj"
    (text, _) = of_class(drawn([Width(name, 8, Spread.of([4]))]), "tick")
    assert "…" in text.text
    assert text[0].text == name
