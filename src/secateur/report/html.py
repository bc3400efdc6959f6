"""A study as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ..errors import StudyError
from ..experiments.store import Row
from .bars import bars
from .chart import Point, chart
from .origin import environments, shared, title_of, written
from .pages import environment, replace
from .reading import ARM_NAMES, RULE, cell, readings, whole
from .spread import NONE, Spread, percent, plus_minus, span
from .summary import FIELDS, Line, Summary, summarise
from .svg import key
from .table import ABSENT, counts

FEW = 16  # groups up to which the widths are open when the page is


def write_report(
    rows: list[Row], path: str | os.PathLike[str], *, title: str | None = None, command: str | None = None
) -> Path:
    """Write the report of one study's rows and return its path; a file already there is replaced in one step.

    `command` is what made the rows, as the reader would type it. Raises `StudyError` when no run is finished or the
    rows have several settings, and `CheckpointError` where the file cannot be written.
    """
    target = Path(path)
    replace(target, page(rows, title=title, command=command))
    return target


def page(rows: list[Row], *, title: str | None = None, command: str | None = None) -> str:
    """The report as HTML text. Raises `StudyError` as `write_report` does."""
    summary = summarise(rows)
    if len(summary.missing) == len(rows):
        raise StudyError(_nothing(summary))
    template = _environment().get_template("report.html.j2")
    return template.render(
        title=title or title_of([row.run for row in rows]),
        command=command,
        summary=summary,
        rows=rows,
        readings=readings(summary),
        rule=RULE,
        models=[_model(summary, model) for model in summary.models],
        shared=shared(rows),
        setting=rows[0].run.setting.model_dump_json(indent=2),
        environments=environments(rows),
        written=written(),
        version=version("secateur"),
    )


def _nothing(summary: Summary) -> str:
    if not summary.runs:
        return "there are no runs to report; run the study first, with `secateur compare`"
    first = next((f"; the first failure: {m.label}: {m.error}" for m in summary.missing if m.error), "")
    return (
        f"none of {summary.runs} runs is finished ({counts(summary.missing)}), so there is nothing to report; run "
        f"`secateur compare` again with the same folder to go on{first}"
    )


def _environment() -> Environment:
    made = environment()
    words = {"percent": percent, "plus_minus": plus_minus, "span": span, "missing": counts}
    made.filters.update(words, count=_count, epochs=_epochs, breaks=_breaks)
    made.globals.update(arm_names=ARM_NAMES, dash=NONE, absent=ABSENT, fields=FIELDS)
    return made


def _breaks(name: str) -> Markup:
    """A method's label, which may be broken before its options."""
    return Markup("<wbr>(").join(name.split("("))


def _count(spread: Spread) -> str:
    """`38.25 k`, always to four digits, so that a column of them lines up."""
    if spread.mean is None:
        return NONE
    limit, suffix = next((u for u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if spread.mean >= u[0]), (1.0, ""))
    return f"{spread.mean / limit:#.4g} {suffix}" if suffix else f"{spread.mean:g}"


def _epochs(spread: Spread) -> str:
    """`10`, or `19–21` where methods or seeds differ."""
    if spread.low is None or spread.high is None:
        return NONE
    return f"{spread.low:g}" if spread.low == spread.high else f"{spread.low:g}–{spread.high:g}"


def _model(summary: Summary, model: str) -> dict[str, Any]:
    """What the template shows of one model."""
    lines = [line for line in summary.lines if line.model == model]
    series = {m: i for i, m in enumerate(dict.fromkeys(line.method for line in summary.lines))}
    cells = [cell for line in lines for cell in line.cells]
    return {
        "name": model,
        "lines": lines,
        "dense": [c for c in summary.dense if c.model == model],
        "epochs": {a: Spread.of(v for c in cells if c.arm == a for v in c.epochs.values) for a in summary.arms},
        "legend": [(method, Markup(key(i))) for method, i in series.items()],
        "panels": _panels(summary, model, lines, series),
        "widths": [_widths(line, series, lines) for line in lines if line.widths],
        "open": all(len(line.widths) <= FEW for line in lines),
        "disagree": [line for line in lines if line.disagree],
    }


def _panels(summary: Summary, model: str, lines: list[Line], series: dict[str, int]) -> list[tuple[str, Markup]]:
    """A panel an arm, all with one vertical axis, and one at the cut with its own: their names and pictures."""
    arms = {ARM_NAMES[arm]: _points(summary, model, lines, series, arm) for arm in summary.arms}
    every = [p for points in arms.values() for p in points]
    cut = [_point(series, x.method, x.kept["macs"], x.accuracy_at_cut) for x in lines if x.accuracy_at_cut.n]
    panels = [(name, points, every) for name, points in arms.items()]
    panels += [("At the cut, before any training", cut, [])] if cut else []
    made = []
    for name, points, beside in panels:
        label = f"Accuracy of {model} against MACs kept. {name}"
        svg = chart(points, whole(summary, model), series=len(series), label=label, shared=beside)
        made.append((name, Markup(svg)))
    return made


def _points(summary: Summary, model: str, lines: list[Line], series: dict[str, int], arm: str) -> list[Point]:
    """The marks of an arm, and of the dense models that a method trained for itself."""
    cells = [c for line in lines if (c := cell(line, arm))]
    own = [c for c in summary.dense if c.model == model and c.method in series and c.accuracy.n]
    marks = [_point(series, c.method or "", c.kept["macs"], c.accuracy) for c in cells]
    return marks + [Point(series[c.method or ""], f"{c.method}, dense", 1.0, c.accuracy) for c in own]


def _point(series: dict[str, int], method: str, kept: Spread, accuracy: Spread) -> Point:
    return Point(series[method], method, kept.mean or 0.0, accuracy)


def _widths(line: Line, series: dict[str, int], lines: list[Line]) -> tuple[str, str, Markup]:
    label = f"Widths of {line.model} before and after {line.method} to {line.budget}"
    beside = [w for other in lines for w in other.widths]
    return line.budget, line.method, Markup(bars(line.widths, series=series[line.method], label=label, beside=beside))
