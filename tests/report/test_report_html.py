"""The report: the summary's numbers, nothing fetched, hostile names as text, and a browser that shows it cleanly."""

import json
import os
import re
from html import escape, unescape
from html.parser import HTMLParser

import pytest
import report_browser
from PIL import Image
from report_browser import browser, open_page
from report_rows import done, failed, pending, run, study

from secateur.errors import CheckpointError, StudyError
from secateur.report.html import page, write_report
from secateur.report.spread import percent, plus_minus, span
from secateur.report.summary import summarise

VOID = {"meta", "link", "br", "wbr", "img", "hr", "input"}
HEIGHT = 4000  # pixels of the screenshot, down to the charts
HOSTILE = "<script>alert(1)</script>"
METHODS = ("random", "l1", "l2", "taylor", "slimming:penalty_weight=0.001")
MEASURE = """<script>
const found = [];
for (const svg of document.querySelectorAll("svg.chart")) {
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll("text")].map(t => [t.firstChild.data, t.getBoundingClientRect()]);
  boxes.forEach(([a, p], i) => {
    if (p.left < frame.left - 1 || p.right > frame.right + 1) found.push(["outside", a]);
    for (const [b, q] of boxes.slice(i + 1))
      if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2)
        found.push(["overlap", a, b]);
  });
}
const scale = Math.min(...[...document.querySelectorAll("svg.chart")].map(s => s.getBoundingClientRect().width / 360));
const result = {found, letters: 11 * scale, page: document.documentElement.scrollWidth, window: innerWidth};
parent.document.body.dataset.measured = JSON.stringify(result);
console.error("a sound that must be heard");
</script><img src="http://127.0.0.1:9/fetched.png">"""


class Tags(HTMLParser):
    """All tags with their attributes; `wrong` lists end tags that close nothing."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.wrong, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def full():
    """Two models (one with a hostile name), three budgets, five methods, a failure and an unfinished run."""
    models, budgets = ("digits-resnet", f"vgg{HOSTILE}"), ("macs=0.3", "macs=0.5", "macs=0.7")
    rows = study(models=models, methods=METHODS, budgets=budgets)
    rows += [done(run("dense", s, method=METHODS[-1]), 0.97 + s / 100) for s in range(3)]
    return [*rows, failed(run("finetune", 3), f"TrainingError: {HOSTILE}"), pending(run("scratch-e", 3))]


def cells_of(text):
    """The rows of all tables, each a list of its cells' texts."""
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.S)
    return [[unescape(re.sub(r"<[^>]+>", " ", c)).split() for c in re.findall(r"<t[dh].*?</t[dh]>", r)] for r in rows]


def test_the_page_is_well_formed():
    tags = Tags(page(full(), command="secateur compare"))
    assert tags.wrong == []
    assert tags.open == []
    ids = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    anchors = [a["href"] for t, a in tags.tags if t == "a"]
    assert anchors
    assert {h[1:] for h in anchors} <= set(ids)


def test_nothing_is_asked_of_any_other_place():
    text = page(full(), command="secateur compare")
    tags = Tags(text)
    assert not {t for t, _ in tags.tags} & {"script", "iframe", "object", "embed", "img", "base", "form"}
    for tag, attributes in tags.tags:
        for name in ("src", "href", "srcset", "action", "data", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not [n for n in attributes if n.startswith("on")]
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert "prefers-color-scheme: dark" in style
    assert "http://" not in text
    assert "https://" not in text


def test_hostile_names_stay_text():
    rows = [*full(), failed(run(method="l2", seed=8), '"><img src=x onerror=alert(1)>')]
    text = page(rows, title=HOSTILE, command=HOSTILE)
    assert HOSTILE not in text
    assert "<img" not in text
    words = "".join(Tags(text).words)
    assert words.count(HOSTILE) > 5
    assert '"><img src=x onerror=alert(1)>' in words


def test_the_numbers_are_the_summarys():
    rows = full()
    shown = [[" ".join(c) for c in row] for row in cells_of(page(rows)) if len(row) == 9]
    lines = summarise(rows).lines
    assert len(lines) == 30
    for row, line in zip([r for r in shown if r[0].startswith("macs=")], lines, strict=True):
        tuned, scratch = line.cells
        spreads = (line.accuracy_dense, line.accuracy_at_cut, tuned.accuracy, scratch.accuracy)
        assert row[:2] == [line.budget, line.method.replace("(", " (")]
        assert row[2:4] == [percent(line.kept["macs"].mean, 1), percent(line.kept["params"].mean, 1)]
        assert all(c.startswith(f"{plus_minus(s)} {span(s)}") for c, s in zip(row[4:8], spreads, strict=True))
        assert "n = 3" in row[6]
        assert row[8] == f"{line.max_error:.1e}"


def test_every_run_is_listed_by_its_key():
    rows = full()
    text = page(rows)
    for row in rows:
        assert f'<td class="mono">{row.run.key}</td>' in text


def test_costs_are_shown_before_and_after():
    rows = [done(run(), 0.9, kept=0.25)]
    cost = next(r for r in cells_of(page(rows)) if len(r) == 11 and r[0] == ["macs=0.5"])
    assert [" ".join(c) for c in cost[2:]] == ["1.000 k", "250", "25.0", "200", "12", "6.0", "800", "50", "6.2"]


def test_missing_runs_are_announced_and_explained():
    text = page([done(run(seed=0), 0.9), failed(run(seed=1), "TrainingError: nan <3"), pending(run(seed=2))])
    words = "".join(Tags(text).words)
    assert "2 of 3 runs without a result (1 failed, 1 pending)" in words
    assert "TrainingError: nan <3" in words
    assert "n = 1" in words
    assert "None: every run finished." not in words
    assert "None: every run finished." in page(study())


def test_one_seed_shows_no_spread():
    text = page(study(seeds=(0,)))
    assert "95.00 ± –" in text
    assert "± 0.00" not in text


def test_dense_runs_alone_make_a_page():
    text = page([r for r in study() if r.run.arm == "dense"])
    assert "dense models only" in text
    assert "98.10 ± 0.10" in text


def test_nothing_finished_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(
        StudyError, match=r"none of 2 runs is finished \(1 failed, 1 pending\).*secateur compare.*no memory"
    ):
        write_report([pending(run()), failed(run(seed=1), "no memory")], tmp_path / "r.html")
    with pytest.raises(StudyError, match="no runs to report"):
        write_report([], tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "new" / "r.html"
    assert write_report(study(), target, title="First") == target
    assert "<title>First</title>" in target.read_text(encoding="utf-8")

    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match=r"no space left.*intact"):
        write_report(study(), target, title="Second")
    assert "<title>First</title>" in target.read_text(encoding="utf-8")
    assert [p.name for p in target.parent.iterdir()] == ["r.html"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "file" / "r.html"))):
        write_report(study(), tmp_path / "file" / "r.html")


def test_without_a_browser_the_test_is_skipped_but_fails_under_ci(monkeypatch):
    monkeypatch.setattr(report_browser.shutil, "which", lambda _: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        browser()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        browser()


def test_a_browser_shows_the_page_without_a_sound_or_a_request(tmp_path):
    target = write_report(full(), tmp_path / "report.html", command="secateur compare --preset demo")
    opened = open_page(target, tmp_path / "wide", height=HEIGHT)
    assert opened.console == []
    assert opened.requests == []
    assert opened.dom.count('class="chart"') == 2 * 3 + 2 * 15  # panels, and widths
    assert opened.dom.count('class="mark s') >= 2 * 3 * 15
    assert opened.dom.count('class="after s') == 2 * 15 * 2
    _has_been_painted(opened.screenshot)


def _has_been_painted(path):
    picture = Image.open(path).convert("RGB")
    assert picture.size == (1200, HEIGHT)
    colours = {colour: count for count, colour in picture.getcolors(1 << 24)}
    assert len(colours) > 100
    assert colours[0xFD, 0xFD, 0xFC] > 0.5 * 1200 * HEIGHT, "light paper"
    assert colours[0x00, 0x72, 0xB2] > 50, "the first method's marks"


def test_on_a_phone_nothing_overlaps_and_the_probes_do_find_faults(tmp_path):
    """The page with a script that measures it, its policy taken out, and two faults for the probes above to find."""
    text = re.sub(r"<meta http-equiv.*?>", "", page(full()))
    inner = escape(text.replace("</body>", f"{MEASURE}</body>"))  # in a frame, for windows are not that narrow
    target = tmp_path / "page.html"
    target.write_text(f'<!doctype html><iframe width="360" height="800" srcdoc="{inner}"></iframe>', encoding="utf-8")
    opened = open_page(target, tmp_path / "narrow")
    assert any("a sound that must be heard" in line for line in opened.console)
    assert opened.requests == ["http://127.0.0.1:9/fetched.png"]
    measured = json.loads(unescape(re.search(r'data-measured="(.*?)"', opened.dom).group(1)))
    assert measured["window"] == 360
    assert measured["page"] <= 360, "the page itself does not scroll sideways"
    assert measured["letters"] > 9.5, "pixels; the pictures' smallest text"
    assert measured["found"] == []
