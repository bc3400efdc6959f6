"""The pages of measurements: well formed, nothing fetched, hostile names as text, readable on a phone."""

import json
import os
import re
from html import escape, unescape

import pytest
import report_measured as made
from report_browser import open_page
from test_report_html import MEASURE, Tags

from secateur.errors import CheckpointError
from secateur.report import oracle, sensitivity

PAGES = {
    "oracle": lambda: oracle.page(made.oracle()),
    "sensitivity": lambda: sensitivity.page(made.sensitivity()),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed_and_asks_for_nothing(name):
    text = PAGES[name]()
    tags = Tags(text)
    assert (tags.wrong, tags.open) == ([], [])
    ids = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    assert not {t for t, _ in tags.tags} & {"script", "iframe", "object", "embed", "img", "base", "form"}
    style = text.partition("<style>")[2].partition("</style>")[0]
    for word in ("http://", "https://", "@import", "url("):
        assert word not in (style if word in ("@import", "url(") else text)
    for _, attributes in tags.tags:
        assert attributes.get("href", "#").startswith(("#", "data:"))
        assert not [n for n in attributes if n.startswith("on")]


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_stay_text(name):
    text = PAGES[name]()
    assert made.HOSTILE not in text
    assert "".join(Tags(text).words).count(made.HOSTILE) >= 3


@pytest.mark.parametrize("name", PAGES)
def test_how_it_was_made_is_said(name):
    words = "".join(Tags(PAGES[name]()).words)
    for said in (
        "secateur oracle --model 'a b'",
        "512, of the training set",
        "random",
        "torch",
        "12, of the last call",
    ):
        assert said in words


def test_the_oracles_page_has_its_numbers():
    found = made.oracle()
    text = oracle.page(found)
    words = " ".join("".join(Tags(text).words).split())
    assert "40 of 128 units left out one at a time; the loss of the whole model on 512 training images is 0.25" in words
    assert text.count('class="chart"') == 3
    assert text.count('class="dot ') == 3 * 40
    assert "l1 Spearman 0.90 [0.80, 0.95] within groups 0.50 [0.25, 0.75]" in words
    assert "l1: all scores are the same." in words
    assert words.count("undefined") == 1
    assert f"odd is left out: because of {made.HOSTILE}" in words
    row = next(r for r in re.findall(r"<tr>(.*?)</tr>", text, re.S) if ">rest<" in r)
    assert re.findall(r'"number">(.*?)<', row) == ["32", "0", "–", "–", "–"]


def test_the_reading_says_which_is_highest_and_which_overlap_with_it():
    found = made.oracle(criteria=("l1", "taylor"))
    units = [("a", 0.5), ("b", -2.0), ("c", 0.0)]
    found["units"] = [{"group": g, "unit": 3, "change": c, "scores": {"l1": 0.0, "taylor": 0.0}} for g, c in units]
    said = oracle.reading(found)
    assert said[0] == "Without the unit, the loss is higher for 1, lower for 1 and the same for 1 of 3 units."
    assert said[1] == "The largest change is -2, without unit 3 of b."
    assert said[2:] == ["The highest rank correlation over all units is that of l1: 0.90 [0.80, 0.95]."]
    found["correlations"][1]["overall"]["spearman"] = made.estimate(0.8, 0.7, 0.85)
    assert oracle.reading(found)[3] == "Intervals that overlap with it: taylor."
    undefined = made.estimate(None, None, None, "constant")
    for line in found["correlations"]:
        line["overall"]["spearman"] = undefined
    assert len(oracle.reading(found)) == 2


def test_the_sensitivitys_page_has_its_numbers():
    found = made.sensitivity()
    text = sensitivity.page(found)
    words = " ".join("".join(Tags(text).words).split())
    assert "7 groups, each pruned alone to 5 widths, masked, by l1; measured on 512 training images." in words
    assert text.count('class="chart"') == 2 * 7
    assert text.index("Accuracy against units kept") < text.index("Loss against units kept")
    assert "Dashed: the whole model, 91.5 %." in words
    assert "Together they leave 700 of 1 k MACs" in words.replace("1.0 k", "1 k").replace("1.00 k", "1 k")
    assert "the smallest from which on none exceeds a tolerated loss of accuracy of 1 %" in words
    first = next(r for r in re.findall(r"<tr>(.*?)</tr>", text, re.S) if ">conv1<" in r)
    values = [f"{100 * v:.1f}" for v in found["groups"][0]["values"]["accuracy"]]
    assert re.findall(r'"number">(.*?)<', first) == ["64", *values, "0.7", "44"]
    assert text.count('r="4.4"') == 7, "the ratio to keep, in each panel of the metric that decides"


def test_the_metric_that_decides_comes_first():
    text = sensitivity.page(made.sensitivity(metric="loss", budget="macs=0.5"))
    assert text.index("Loss against units kept") < text.index("Accuracy against units kept")
    assert "those of the least tolerated rise of loss that meets macs=0.5" in text


def test_the_reading_names_the_most_and_the_least_sensitive():
    found = made.sensitivity(groups=2)
    found["groups"][0]["values"]["accuracy"][2] = 0.415
    found["groups"][1]["values"]["accuracy"][2] = 0.905
    said = (
        "At 50 % kept, conv1 is the most sensitive group: accuracy -50.0 points; the least is {}: accuracy -1.0 points."
    )
    assert sensitivity.reading(found) == [said.format(made.LONG)]
    found["metric"] = "loss"
    found["groups"] = found["groups"][:1]
    found["groups"][0]["values"]["loss"][2] = 1.0123
    assert sensitivity.reading(found) == ["At 50 % kept, conv1 changes loss +1."]


@pytest.mark.parametrize(
    "write",
    [lambda p: oracle.write_oracle(made.oracle(), p), lambda p: sensitivity.write_sensitivity(made.sensitivity(), p)],
)
def test_a_page_is_replaced_whole_or_not_at_all(write, tmp_path, monkeypatch):
    target = tmp_path / "new" / "p.html"
    assert write(target) == target
    before = target.read_text(encoding="utf-8")
    assert before.startswith("<!doctype html>")

    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match=r"no space left.*intact"):
        write(target)
    assert target.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("name", PAGES)
def test_a_browser_shows_it_and_on_a_phone_nothing_overlaps(name, tmp_path):
    text = PAGES[name]()
    target = tmp_path / "page.html"
    target.write_text(text, encoding="utf-8")
    opened = open_page(target, tmp_path / "wide")
    assert (opened.console, opened.requests) == ([], [])
    probed = re.sub(r"<meta http-equiv.*?>", "", text).replace("</body>", f"{MEASURE}</body>")
    # The probe measures letters by a width of 360; small panels are drawn on one of their own.
    width = re.search(r'viewBox="0 0 (\d+) ', text).group(1)
    inner = escape(probed.replace("width / 360", f"width / {width}"))
    target.write_text(f'<!doctype html><iframe width="360" height="800" srcdoc="{inner}"></iframe>', encoding="utf-8")
    opened = open_page(target, tmp_path / "narrow")
    measured = json.loads(unescape(re.search(r'data-measured="(.*?)"', opened.dom).group(1)))
    assert measured["window"] == 360
    assert measured["page"] <= 360, "the page itself does not scroll sideways"
    assert measured["letters"] > 9.5, "pixels; the pictures' smallest text"
    assert measured["found"] == []
