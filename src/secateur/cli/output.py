"""What goes where: results and JSON to standard output, notes, progress and errors to standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 120  # columns of what is piped or stored: nobody's terminal breaks it


def console() -> Console:
    """Standard output, for people."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(highlight=False, markup=False, soft_wrap=False, width=width)


def errors() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)


def complain(error: Exception) -> None:
    """`error: BadBudget: ...` on standard error; long lines are left to the terminal, so that they can be searched."""
    text = Text.assemble(("error: ", "bold red"), (f"{type(error).__name__}: ", "bold"), str(error))
    errors().print(text, soft_wrap=True)


def note(message: str) -> None:
    """`note: ...` on standard error."""
    errors().print(Text.assemble(("note: ", "bold"), message), soft_wrap=True)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """In a terminal, say what is going on until it is over."""
    with errors().status(what):
        yield


def emit(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=2, allow_nan=False))


@contextlib.contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """If wanted, whatever is printed inside (by a user's model, a library, a worker process) goes to standard error."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def plain_table(*columns: str, numbers: tuple[str, ...] = (), title: str | None = None) -> Table:
    """An empty table; the columns named in `numbers` are set to the right."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        right = name in numbers
        made.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return made


def whole(table: Table, names: Iterable[str], out: Console) -> None:
    """Let the first column break no name, unless one takes more than a third of the width."""
    table.columns[0].no_wrap = max(map(len, names), default=0) <= out.width // 3


def row(table: Table, *cells: object) -> None:
    """Add a row as plain text: names hold brackets that rich would read as styles."""
    table.add_row(*(Text(str(cell)) for cell in cells))


def percent(fraction: float) -> str:
    """`49.8 %`."""
    return f"{100 * fraction:.1f} %"
