"""A progress bar with the time left, the loss, the learning rate and the last evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[[int, float, float, float | None], None]


@contextmanager
def bar(total: int, shown: bool) -> Iterator[Report]:
    """Gives `report(steps_done, loss, lr, metric)`, which moves a bar of `total` steps, on stderr, if it is shown."""
    figures = TextColumn("{task.fields[figures]}")
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), figures)
    with Progress(*columns, disable=not shown, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=total, figures="")

        def report(done: int, loss: float, lr: float, metric: float | None) -> None:
            measured = "" if metric is None else f"  metric {metric:.4f}"
            progress.update(task, completed=done, figures=f"loss {loss:.4f}  lr {lr:.2e}{measured}")

        yield report
