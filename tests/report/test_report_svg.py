"""Scales, marks and text of the pictures."""

import itertools
from xml.etree import ElementTree

import pytest

from secateur.report.svg import Scale, canvas, key, marker, shorten, written


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.494, 96.4, 1234.0])
@pytest.mark.parametrize("room", [1e-4, 0.3, 1.0, 7.0, 99.0, 1e6])
def test_a_scale_covers_its_values_with_a_few_round_ticks(low, room):
    scale = Scale.over([low, low + room], 0, 100)
    slack = 1e-6 * room
    assert scale.low <= low + slack
    assert scale.high >= low + room - slack
    assert 3 <= len(scale.ticks) <= 8
    steps = {round((b - a) / room, 6) for a, b in itertools.pairwise(scale.ticks)}
    assert len(steps) == 1
    texts = [scale.text(t) for t in scale.ticks]
    assert len(set(texts)) == len(texts)
    assert [float(t) for t in texts] == pytest.approx(scale.ticks, abs=slack)


def test_a_scale_is_straight_between_its_ends():
    scale = Scale.over([0, 10], 200, 100)
    assert (scale(0), scale(5), scale(10)) == (200, 150, 100)


def test_no_two_of_many_series_look_alike():
    looks = set()
    for series in range(56):
        mark = ElementTree.fromstring(key(series))[0]
        shape = mark.tag + mark.get("points", "")
        looks.add((shape, mark.get("class")))
    assert len(looks) == 56
    first = {ElementTree.fromstring(key(s))[0].get("points") for s in range(7)}
    assert len(first) == 7, "the first methods differ in shape alone, for readers who see no colour"


def test_a_picture_has_a_name_and_its_text_is_escaped():
    svg = canvas(10, 10, 'a <b> & "c"')
    marker(svg, 0, 1, 1, title="<script>")
    read = ElementTree.fromstring(written(svg))
    assert (read.get("role"), read.get("aria-label"), read[0].text) == ("img", 'a <b> & "c"', 'a <b> & "c"')
    assert "<script>" not in written(svg)


def test_long_names_keep_both_ends():
    assert shorten("conv1", 8) == "conv1"
    short = shorten("model.layers.11.self_attn.k_proj", 20)
    assert len(short) == 20
    assert short.startswith("model.")
    assert short.endswith("attn.k_proj")
