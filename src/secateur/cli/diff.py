"""`secateur diff`: two plan files side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import SPECS, SUBJECT, Input, Json, option
from .output import console, emit, note, percent, plain_table, row, whole

if TYPE_CHECKING:  # imports torch
    from ..groups.plan_file import PlanFile

EPILOG = """Example
$ secateur diff plan.json edited.json --model resnet20

The exit code is 0 whether they differ or not."""

A = Annotated[Path, typer.Argument(metavar="A", help="A plan file, as `secateur plan` writes.", show_default=False)]
B = Annotated[Path, typer.Argument(metavar="B", help="Another, for the same model.", show_default=False)]

Counted = Annotated[str | None, option("--model", "SPEC", f"Count what the plans cost of this model: {SPECS}", SUBJECT)]


def diff(a: A, b: B, model: Counted = None, input: Input = None, json: Json = False) -> None:
    """Compare two plan files: how many units of each group stay in either, and how many in both.

    What they cost is compared too, as `plan` had them state it; a file that was edited since states nothing, and with
    --model both are counted anew. A group that one of them does not name stays whole there.
    """
    from ..groups.difference import costs, difference, edited
    from ..groups.plan_file import PlanFile

    one, other = PlanFile.read(a), PlanFile.read(b)
    cost = costs(one, other) if model is None else counted(one, other, model, input)
    for path, file in ((a, one), (b, other)):
        if model is None and edited(file):
            note(f"{path} was edited since it stated its cost: give --model to count it anew")
    found = {
        "a": str(a),
        "b": str(b),
        "groups": [asdict(r) | {"same": r.same} for r in difference(one, other)],
        "edits": {"a": len(one.edits), "b": len(other.edits), "same": one.edits == other.edits},
        "cost": {field: {"a": first, "b": second} for field, (first, second) in cost.items()},
    }
    (emit if json else show)(found)


def counted(one: PlanFile, other: PlanFile, model: str, input: str | None) -> dict[str, tuple[float, float]]:
    """Field -> what a model costs at the widths of each plan. Raises `PlanError` where a plan does not fit it."""
    from ..cost.cost import CostModel
    from .inputs import example_of, graph_of, model_of

    kinds = ",".join(dict.fromkeys((*one.kinds, *other.kinds))) or None
    graph = graph_of(model_of(model, None, None), example_of(model, input), None, kinds)
    cost = CostModel(graph)
    first, second = (cost.at(file.plan(graph).widths(graph)).as_dict() for file in (one, other))
    return {field: (value, second[field]) for field, value in first.items()}


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
