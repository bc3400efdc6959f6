"""The summary for the terminal, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from ..experiments.store import Row
from .spread import percent, plus_minus
from .summary import Cell, Line, Missing, Summary, summarise


def table(rows: list[Row]) -> Table:
    """A line per model, budget and method; percent, mean ± sample standard deviation over n seeds.

    What all lines share (a single model, a single budget) goes to the title. Raises `StudyError` as `summarise` does.
    """
    summary = summarise(rows)
    same = {f: len({getattr(line, f) for line in summary.lines}) <= 1 for f in ("model", "budget")}
    shown = [f for f in ("model", "budget") if not same[f]]
    style: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}
    made = Table(title=_title(summary, same), caption=_caption(summary), title_justify="left", caption_justify="left", **style)
    for name in (*shown, "method"):
        made.add_column(name, overflow="fold", min_width=6)
    for name in ("MACs\nkept", "params\nkept"):
        made.add_column(name, justify="right")
    for name in ("dense", "at the cut", *summary.arms):
        made.add_column(name, justify="right", no_wrap=True)
    for line in summary.lines:
        made.add_row(*(Text(getattr(line, f)) for f in (*shown, "method")), *_numbers(line, summary))
    return made


def as_json(rows: list[Row]) -> str:
    """The summary as JSON text, values of single seeds and runs without a result included."""
    return json.dumps(asdict(summarise(rows)), indent=2)


def counts(missing: tuple[Missing, ...]) -> str:
    """`2 failed, 1 pending`; empty when there are none."""
    statuses = [m.status for m in missing]
    return ", ".join(f"{statuses.count(s)} {s}" for s in ("failed", "running", "pending") if s in statuses)


def _title(summary: Summary, same: dict[str, bool]) -> Text:
    shared = [getattr(summary.lines[0], f) for f in ("model", "budget") if same[f]] if summary.lines else summary.models
    return Text(", ".join([*shared, "percent"]))


def _caption(summary: Summary) -> Text:
    done = summary.runs - len(summary.missing)
    usual = f"n={summary.seeds}" + (" where not marked" if summary.missing else "")
    said = [f"{done} of {summary.runs} runs done; mean ± sample standard deviation over seeds, {usual}"]
    if summary.missing:
        said.append(f"without a result: {counts(summary.missing)}")
    said += [f"{m.label}: {(m.error or '').strip().splitlines()[-1]}" for m in summary.missing if m.error]
    return Text("\n".join(said))


def _numbers(line: Line, summary: Summary) -> list[Text]:
    cells = {cell.arm: cell for cell in line.cells}
    kept = [percent(line.kept[f].mean, 1) for f in ("macs", "params")]
    shared = [plus_minus(line.accuracy_dense), plus_minus(line.accuracy_at_cut)]
    return [Text(t) for t in (*kept, *shared, *(_cell(cells.get(arm), summary.seeds) for arm in summary.arms))]


def _cell(cell: Cell | None, usual: int) -> str:
    if cell is None:
        return "no such run"
    notes = [f"n={cell.accuracy.n}"] if cell.accuracy.n != usual else []
    notes += [counts(cell.missing)] if cell.missing else []
    return "\n".join([plus_minus(cell.accuracy), *notes])
