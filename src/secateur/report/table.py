"""The summary for the terminal, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich import box
from rich.table import Table
from rich.text import Text

from ..experiments.store import Row
from .spread import percent, plus_minus
from .summary import Cell, Line, Missing, Summary, summarise

ABSENT = "not in study"  # an arm that was not asked for with this method and budget


def table(rows: list[Row]) -> Table:
    """A line per model, budget and method; percent, mean ± sample standard deviation over n seeds.

    Each model and budget has its own heading. Raises `StudyError` as `summarise` does.
    """
    summary = summarise(rows)
    made = Table.grid()
    made.caption, made.caption_justify = _caption(summary), "left"
    for model, budget in dict.fromkeys((line.model, line.budget) for line in summary.lines):
        made.add_row(_part(summary, model, budget))
    return made


def _part(summary: Summary, model: str, budget: str) -> Table:
    made = Table(title=Text(f"{model}, {budget}"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.pad_edge = False
    made.add_column("method", overflow="fold", min_width=6)
    for name in ("MACs\nkept", "params\nkept"):
        made.add_column(name, justify="right")
    for name in ("dense", "at the cut", *summary.arms):
        made.add_column(name, justify="right", no_wrap=True)
    for line in summary.lines:
        if (line.model, line.budget) == (model, budget):
            made.add_row(Text(line.method), *_numbers(line, summary))
    return made


def as_json(rows: list[Row]) -> str:
    """The summary as JSON text, values of single seeds and runs without a result included."""
    return json.dumps(asdict(summarise(rows)), indent=2)


def counts(missing: tuple[Missing, ...]) -> str:
    """`2 failed, 1 pending`; empty when there are none."""
    statuses = [m.status for m in missing]
    return ", ".join(f"{statuses.count(s)} {s}" for s in ("failed", "running", "pending") if s in statuses)


def _caption(summary: Summary) -> Text:
    done = summary.runs - len(summary.missing)
    usual = f"n={summary.seeds}" + (" where not marked" if summary.missing else "")
    said = [f"{done} of {summary.runs} runs done; percent, mean ± sample sd over seeds, {usual}"]
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
        return ABSENT
    notes = [f"n={cell.accuracy.n}"] if cell.accuracy.n != usual else []
    notes += [counts(cell.missing)] if cell.missing else []
    return "\n".join([plus_minus(cell.accuracy), *notes])
