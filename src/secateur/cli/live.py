"""A study at work, on standard error: a bar with the time left in a terminal, else a line for each run that ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from .output import errors

if TYPE_CHECKING:  # this imports torch
    from ..experiments.store import Row

ENDED = ("done", "failed")
LONG = 30 * 24 * 3600.0  # seconds of history for the time left: a run may take hours, rich forgets after 30 s


@contextmanager
def live(total: int, before: Collection[str] = ()) -> Iterator[Callable[[list[Row]], None]]:
    """Gives `report(rows)` for a study of `total` runs, of which those with the keys `before` were done before."""
    console = errors()
    told = set(before)
    if told:
        console.print(f"{len(told)} of {total} runs are done already")
    stiff = Column(no_wrap=True)
    figures = (kind(table_column=stiff) for kind in (MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn))
    now = TextColumn("{task.fields[now]}", markup=False, table_column=Column())  # wraps in a narrow terminal
    shown = (BarColumn(20, table_column=stiff), *figures, now)
    with Progress(*shown, console=console, speed_estimate_period=LONG, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, completed=len(told), now="")

        def report(rows: list[Row]) -> None:
            new = [row for row in rows if row.status in ENDED and row.run.key not in told]
            for number, row in enumerate(new, start=len(told) + 1):
                if row.status == "failed" or not console.is_terminal:
                    progress.print(line(row, number, total), soft_wrap=True)
            told.update(row.run.key for row in new)
            progress.update(task, completed=len(told), now=_now(rows))

        yield report


def line(row: Row, done: int, total: int) -> Text:
    """`3/21 digits-resnet l1 macs=0.5 finetune seed 0: 95.00 %, 7 s`."""
    took = "" if row.seconds is None else f", {row.seconds:.0f} s"
    if row.result is not None:
        return Text(f"{done}/{total} {row.run.label}: {100 * row.result['accuracy']:.2f} %{took}")
    return Text.assemble(f"{done}/{total} {row.run.label}: ", ("failed", "bold red"), f", {reason(row)}")


def reason(row: Row) -> str:
    """The last line of the error of a failed run."""
    return next(reversed((row.error or "no reason was stored").strip().splitlines()))


def _now(rows: list[Row]) -> str:
    failed = sum(row.status == "failed" for row in rows)
    running = [row.run.label for row in rows if row.status == "running"]
    return "  ".join([f"{failed} failed"] * bool(failed) + running[:1] + [f"+{len(running) - 1}"] * (len(running) > 1))
