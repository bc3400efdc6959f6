"""What came of a command that prunes or plans: as plain data, and as tables for a person."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import console, emit, note, percent, plain_table, row, whole

if TYPE_CHECKING:  # these import torch
    from rich.console import Console

    from ..cost.cost import Cost
    from ..groups.graph import Graph
    from ..groups.plan import Plan
    from .job import Done, Job


def finish(task: Job, done: Done, data: str | None, out: Path | None, start: float, json: bool, **more: Any) -> None:
    """Notes, and the outcome as JSON or for a person; `more` is said besides."""
    from . import job

    for said in job.notes(task, done):
        note(said)
    found = describe(task, done, data) | more | {"out": out and str(out), "seconds": seconds(start)}
    (emit if json else show)(found)


def seconds(start: float) -> float:
    """Since then, to a millisecond."""
    return round(time.monotonic() - start, 3)


def describe(job: Job, done: Done, data: str | None) -> dict[str, Any]:
    """The outcome as plain data."""
    pruned = done.pruned
    return {
        **asked(job, data),
        "repair": job.repair,
        **figures(done.graph, pruned.plan, pruned.before, pruned.after),
        "check": asdict(pruned.check),
        "accuracy": {"dense": done.dense, "at_cut": done.at_cut, "finetuned": done.finetuned},
    }


def asked(job: Job, data: str | None) -> dict[str, Any]:
    """What was to be pruned, by what."""
    from .choice import Chosen

    return {
        "model": job.model,
        "weights": job.weights and str(job.weights),
        "data": data,
        "method": None if job.method.name == "" else job.method.name,
        "criterion": job.method.criterion.name,
        "allocator": job.method.allocator.name if isinstance(job.method, Chosen) else None,
        "budget": job.budget and str(job.budget),
        "seed": job.seed,
    }


def figures(graph: Graph, plan: Plan, before: Cost, after: Cost) -> dict[str, Any]:
    """Cost and widths."""
    dense, left = before.as_dict(), after.as_dict()
    widths = plan.widths(graph)
    return {
        "before": dense,
        "after": left,
        "kept": {field: left[field] / dense[field] for field in dense},
        "widths": [{"group": g.name, "units": g.size, "kept": widths[g.name]} for g in graph.groups],
    }


def show(found: dict[str, Any]) -> None:
    """The same for a person."""
    out = console()
    tables(found, out)
    check, accuracy = found["check"], found["accuracy"]
    limits = f"{check['max_error']:.1e}, {check['tolerance']:.0e} allowed"
    out.print(f"check: relative difference from {check['reference']}: {limits}", soft_wrap=True)
    words = {"dense": "dense", "at_cut": "at the cut", "finetuned": "fine-tuned"}
    measured = [f"{words[k]} {100 * v:.2f} %" for k, v in accuracy.items() if v is not None]
    if measured:
        out.print(f"accuracy on the test images: {', '.join(measured)}", soft_wrap=True)
    end(found, out)


def end(found: dict[str, Any], out: Console) -> None:
    """How long it took, and where the outcome is."""
    saved = f"saved to {found['out']}" if found["out"] else "not saved: no --out"
    out.print(f"{found['seconds']:.1f} s; {saved}", soft_wrap=True)


def tables(found: dict[str, Any], out: Console) -> None:
    """Widths and cost."""
    from ..cost.cost import short

    table = plain_table("group", "units", "kept", "", numbers=("units", "kept", ""))
    whole(table, (width["group"] for width in found["widths"]), out)
    for width in found["widths"]:
        row(table, width["group"], width["units"], width["kept"], percent(width["kept"] / width["units"]))
    out.print(table)
    table = plain_table("cost", "before", "after", "kept", numbers=("before", "after", "kept"))
    for field, before in found["before"].items():
        row(table, field, short(before).strip(), short(found["after"][field]).strip(), percent(found["kept"][field]))
    out.print(table)
