"""The drawing: well-formed, nothing fetched, hostile names as text, all groups there, and a browser that shows it."""

import json
import re
from collections import Counter
from html import escape, unescape
from pathlib import Path

import pytest
import torch
from PIL import Image
from report_browser import open_page
from report_nets import dense, residual, tied
from test_report_html import Tags
from torch import nn

import secateur
from secateur.errors import CheckpointError
from secateur.report.boxes import boxes
from secateur.report.network import network, write_network

HOSTILE = "<script>alert(1)</script>"
DIM = 0.22
MEASURE = """<script>
const seen = group => [...document.querySelectorAll(`.net .x`)].filter(e => e.classList.contains(group));
const opacity = e => getComputedStyle(e).opacity;
const pairs = [...document.querySelectorAll(".row, summary")].map(e => [e, e.querySelector("svg")]).filter(p => p[1]);
const gaps = pairs.filter(([e, s]) => s.getBoundingClientRect().height !== e.getBoundingClientRect().height);
const wide = [...document.querySelectorAll(".net *")].filter(e => e.getBoundingClientRect().right > innerWidth);
location.hash = "#g2";
setTimeout(() => {
  const others = [...document.querySelectorAll(".net .x")].filter(e => !e.classList.contains("g2"));
  const measured = {
    lit: [...new Set(seen("g2").map(opacity))], dimmed: [...new Set(others.map(opacity))],
    gaps: gaps.length, pieces: pairs.length, wide: wide.length,
    page: document.documentElement.scrollWidth, window: innerWidth,
  };
  (window.frameElement ? parent.document : document).body.dataset.measured = JSON.stringify(measured);
}, 0);
</script>"""


class Hostile(nn.Module):
    """Names that a page must not take for markup."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential()
        self.first.add_module(HOSTILE, nn.Linear(4, 6))
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.first(x).relu())


def measured(text, tmp_path, width=None):
    """What the script above finds, in a frame of this width, for windows are not that narrow."""
    text = re.sub(r"<meta http-equiv.*?>", "", text).replace("</body>", f"{MEASURE}</body>")
    if width:
        text = f'<!doctype html><iframe width="{width}" height="800" srcdoc="{escape(text)}"></iframe>'
    target = tmp_path / "page.html"
    target.write_text(text, encoding="utf-8")
    opened = open_page(target, tmp_path / "browser")
    return json.loads(unescape(re.search(r'data-measured="(.*?)"', opened.dom).group(1)))


@pytest.mark.parametrize("make", [residual, tied, dense])
def test_the_page_is_well_formed_and_asks_nothing_of_any_other_place(make):
    text = network(make())
    tags = Tags(text)
    assert (tags.wrong, tags.open) == ([], [])
    ids = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    links = {a["href"] for t, a in tags.tags if t == "a"}
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert not {t for t, _ in tags.tags} & {"script", "iframe", "object", "embed", "img", "base", "form"}
    assert "http://" not in text
    assert "https://" not in text


def test_hostile_names_stay_text():
    graph = secateur.trace(Hostile(), torch.randn(1, 4))
    text = network(graph, title=HOSTILE, command=HOSTILE)
    assert HOSTILE not in text
    assert "".join(Tags(text).words).count(HOSTILE) > 4


def test_every_layer_is_a_box_and_every_part_of_a_group_is_marked():
    for graph in (residual(), tied(), dense()):
        text = network(graph)
        drawing = text.partition('<div class="net">')[2].partition('<section id="groups">')[0]
        layers = list(boxes(graph).layers())
        assert len(re.findall(r'<div class="row[ "]', drawing)) == len(layers)
        expected = Counter(p.group for layer in layers for p in (*layer.reads, *layer.writes, *layer.along) if p.group)
        assert Counter(map(int, re.findall(r'<[ai] class="x g(\d+)"', drawing))) == expected
        assert set(expected) == set(range(1, len(graph.groups) + 1))
        assert re.search(r'<i class="x f" style="flex-grow:\d+" title="[^"]+"><span>frozen', drawing)


def test_the_table_has_each_group_with_its_members():
    graph = residual()
    text = network(graph)
    row = re.search(r'<tr id="g2".*?</tr>', text, re.S).group()
    cells = [unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.S)]
    assert cells[:7] == ["2", "first.0", "12", "channel", "6.912 k", "110", "88.9"]
    assert "second.0: weight [1]" in cells[7]
    assert "first.1: weight [0], bias [0], running_mean [0], running_var [0]" in cells[7]


def test_what_is_frozen_is_listed_by_reason():
    text = "".join(Tags(network(residual(frozen=["first.*"]))).words)
    assert "1: asked for by frozen='first.*'" in text
    assert "first.0: 12 units" in text
    nothing = "".join(Tags(network(residual(kinds="head"))).words)
    assert "None: nothing of this model can be pruned." in nothing
    assert "2: its units are channels, not in kinds=('head',)" in nothing


def test_a_page_is_written_or_the_place_is_named(tmp_path):
    assert write_network(residual(), tmp_path / "new" / "n.html", title="First") == tmp_path / "new" / "n.html"
    assert "<title>First</title>" in (tmp_path / "new" / "n.html").read_text(encoding="utf-8")
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "new" / "n.html" / "m.html"))):
        write_network(residual(), Path(tmp_path / "new" / "n.html" / "m.html"))


def test_a_browser_shows_the_page_without_a_sound_or_a_request(tmp_path):
    opened = open_page(write_network(residual(), tmp_path / "network.html"), tmp_path / "wide")
    assert opened.console == []
    assert opened.requests == []
    picture = Image.open(opened.screenshot).convert("RGB")
    colours = {colour: count for count, colour in picture.getcolors(1 << 24)}
    assert colours[0xFD, 0xFD, 0xFC] > 0.5 * picture.width * picture.height, "light paper"
    assert colours[0xB5, 0xEE, 0xC6] > 5000, "strips of the first group"


def test_a_group_that_is_chosen_stands_out_and_lines_have_no_gaps(tmp_path):
    found = measured(network(residual()), tmp_path)
    assert found["lit"] == ["1"]
    assert found["dimmed"] == [str(DIM)]
    assert found["pieces"] > 8
    assert found["gaps"] == 0


def test_on_a_phone_nothing_sticks_out(tmp_path):
    found = measured(network(dense()), tmp_path, width=360)
    assert found["window"] == 360
    assert found["page"] <= 360, "the page itself does not scroll sideways"
    assert found["wide"] == 0
