"""`secateur diff`: two plan files side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json
from .output import console, emit, percent, plain_table, row, whole

EPILOG = """Example
$ secateur diff plan.json edited.json

The exit code is 0 whether they differ or not."""

A = Annotated[Path, typer.Argument(metavar="A", help="A plan file, as `secateur plan` writes.", show_default=False)]
B = Annotated[Path, typer.Argument(metavar="B", help="Another, for the same model.", show_default=False)]


def diff(a: A, b: B, json: Json = False) -> None:
    """Compare two plan files: how many units of each group stay in either, and how many in both.

    Where both state what they cost, as `plan` has them do, that is compared too; a file that was edited since states
    what it cost before. A group that one of them does not name stays whole there.
    """
    from ..groups.difference import costs, difference
    from ..groups.plan_file import PlanFile

    one, other = PlanFile.read(a), PlanFile.read(b)
    found = {
        "a": str(a),
        "b": str(b),
        "groups": [asdict(r) | {"same": r.same} for r in difference(one, other)],
        "edits": {"a": len(one.edits), "b": len(other.edits), "same": one.edits == other.edits},
        "cost": {field: {"a": first, "b": second} for field, (first, second) in costs(one, other).items()},
    }
    (emit if json else show)(found)


def show(found: dict[str, Any]) -> None:
    """For a person."""
    from ..cost.cost import short

    out, rows = console(), found["groups"]
    differ = [r for r in rows if not r["same"]]
    if differ:
        table = plain_table("group", "units", "A", "B", "in both", numbers=("units", "A", "B", "in both"))
        whole(table, (r["group"] for r in differ), out)
        for r in differ:
            kept = (r["size"] if r[side] is None else r[side] for side in ("a", "b"))
            row(table, r["group"], r["size"], *kept, r["shared"])
        out.print(table)
    out.print(f"{len(rows) - len(differ)} of {len(rows)} groups keep the same units")
    if not found["edits"]["same"]:
        out.print(f"other edits differ: {found['edits']['a']} in A, {found['edits']['b']} in B")
    if found["cost"]:
        table = plain_table("cost", "A", "B", "B of A", numbers=("A", "B", "B of A"))
        for field, cost in found["cost"].items():
            share = percent(cost["b"] / cost["a"]) if cost["a"] else ""
            row(table, field, short(cost["a"]).strip(), short(cost["b"]).strip(), share)
        out.print(table)
