"""A study as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..cost.cost import short
from ..errors import CheckpointError, StudyError
from ..experiments.store import Row
from .bars import bars
from .chart import Point, chart
from .origin import here, shared, title_of
from .reading import ARM_NAMES, RULE, readings, whole
from .spread import NONE, Spread, percent, plus_minus, span
from .summary import FIELDS, Line, Summary, summarise
from .svg import key
from .table import counts

FEW = 16  # groups up to which the widths are open when the page is


def write_report(
    rows: list[Row], path: str | os.PathLike[str], *, title: str | None = None, command: str | None = None
) -> Path:
    """Write the report of one study's rows and return its path; a file already there is replaced in one step.

    `command` is what made the rows, as the reader would type it. Raises `StudyError` when no run is finished or the
    rows have several settings, and `CheckpointError` where the file cannot be written.
    """
    target = Path(path)
    _write(target, page(rows, title=title, command=command))
    return target


def page(rows: list[Row], *, title: str | None = None, command: str | None = None) -> str:
    """The report as HTML text. Raises `StudyError` as `write_report` does."""
    summary = summarise(rows)
    if len(summary.missing) == len(rows):
        raise StudyError(_nothing(summary))
    return _environment().get_template("report.html.j2").render(
        title=title or title_of([row.run for row in rows]),
        command=command,
        summary=summary,
        rows=rows,
        readings=readings(summary),
        rule=RULE,
        models=[_model(summary, model) for model in summary.models],
        shared=shared(rows),
        setting=rows[0].run.setting.model_dump_json(indent=2),
        here=here(),
        failed=[m for m in summary.missing if m.status == "failed"],
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
    made = Environment(
        loader=PackageLoader("secateur.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=percent, plus_minus=plus_minus, span=span, count=_count, epochs=_epochs, missing=counts)
    made.globals.update(arm_names=ARM_NAMES, none=NONE, fields=FIELDS)
    return made


def _count(spread: Spread) -> str:
    return NONE if spread.mean is None else short(spread.mean).strip()


def _epochs(spread: Spread) -> str:
    """`10`, or `19–21` where methods or seeds differ."""
    if spread.low is None or spread.high is None:
        return NONE
    return f"{spread.low:g}" if spread.low == spread.high else f"{spread.low:g}–{spread.high:g}"


def _model(summary: Summary, model: str) -> dict[str, Any]:
    """What the template shows of one model."""
    lines = [line for line in summary.lines if line.model == model]
    series = {m: i for i, m in enumerate(dict.fromkeys(line.method for line in summary.lines))}
    arms = {a: Spread.of(v for x in lines for c in x.cells if c.arm == a for v in c.epochs.values) for a in summary.arms}
    return {
        "name": model,
        "lines": lines,
        "dense": [c for c in summary.dense if c.model == model],
        "epochs": arms,
        "legend": [(method, Markup(key(i))) for method, i in series.items()],
        "panels": _panels(summary, model, lines, series),
        "widths": [_widths(line, series) for line in lines if line.widths],
        "open": all(len(line.widths) <= FEW for line in lines),
        "disagree": [(line, line.disagree) for line in lines if line.disagree],
    }


def _panels(
    summary: Summary, model: str, lines: list[Line], series: dict[str, int]
) -> list[tuple[str, Markup]]:
    dense = whole(summary, model)
    arms = {arm: _points(summary, model, lines, series, arm) for arm in summary.arms}
    every = [p for points in arms.values() for p in points]
    made = []
    for arm, points in arms.items():
        label = f"Accuracy of {model} against MACs kept, {ARM_NAMES[arm]}"
        made.append((ARM_NAMES[arm], Markup(chart(points, dense, series=len(series), label=label, shared=every))))
    cut = [Point(series[x.method], x.method, x.kept["macs"].mean or 0.0, x.accuracy_at_cut) for x in lines if x.kept["macs"].n]
    label = f"Accuracy of {model} against MACs kept, at the cut"
    return [*made, ("At the cut, before any training", Markup(chart(cut, dense, series=len(series), label=label)))]


def _points(summary: Summary, model: str, lines: list[Line], series: dict[str, int], arm: str) -> list[Point]:
    """The marks of an arm, and of the dense models that a method trained for itself."""
    made = [
        Point(series[c.method or ""], c.method or "", c.kept["macs"].mean or 0.0, c.accuracy)
        for line in lines
        for c in line.cells
        if c.arm == arm and c.accuracy.n
    ]
    own = [c for c in summary.dense if c.model == model and c.method in series and c.accuracy.n]
    return made + [Point(series[c.method or ""], f"{c.method}, dense", 1.0, c.accuracy) for c in own]


def _widths(line: Line, series: dict[str, int]) -> tuple[str, str, Markup]:
    label = f"Widths of {line.model} before and after {line.method} to {line.budget}"
    number = series[line.method]
    return f"{line.budget}", line.method, Markup(bars(line.widths, series=number, label=label))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the disk may refuse this too
            temporary.unlink()
        raise CheckpointError(f"cannot write {path}: {error}. What was there before is intact.") from error
