"""`secateur report`: the table and the page of a study that is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, option
from .output import console, note

if TYPE_CHECKING:  # this imports torch
    from ..experiments.store import Row

EPILOG = """Examples
$ secateur report runs/demo
$ secateur report runs/demo --out demo.html
$ secateur report runs/demo --json

Works while the study runs, too: it reports the runs that are done, and
names the others."""

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="What `secateur compare --out` wrote.", exists=True, file_okay=False)
]
StudyName = Annotated[str | None, option("--study", "NAME", "Which study, where DIR holds several.")]
Out = Annotated[Path | None, option("--out", "FILE", "Where the page goes. Default: DIR/report.html.")]


def report(folder: Folder, study: StudyName = None, out: Out = None, json: Json = False) -> None:
    """Print the table of a stored study and write its page, one HTML file that needs nothing else."""
    from .studies import again, stored

    found, rows = stored(folder, study)
    present(rows, out or folder / "report.html", again(found, None, folder), json)


def present(rows: list[Row], page: Path, command: str, json: bool) -> None:
    """The table or the JSON to standard output, and the page to its file, whose path is told."""
    from ..report.html import write_report
    from ..report.table import as_json, table

    if json:
        print(as_json(rows))
    else:
        console().print(table(rows))
    path = write_report(rows, page, command=command)
    if json:
        note(f"report: {path}")
    else:
        console().print(f"report: {path}", soft_wrap=True)
