"""`secateur methods`: what there is to choose from."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .options import Json
from .output import console, emit, plain_table, row

EPILOG = """Options go behind the name, in `prune` and in `compare`
$ secateur prune --method taylor:per_macs=0.5 ...
$ secateur prune --criterion taylor --allocator ranked:min_keep=4 ..."""


def methods(json: Json = False) -> None:
    """List methods, criteria and allocators, with their options and defaults.

    A method is a published paper: a criterion, an allocator, and for some a way to train. A criterion scores units, an
    allocator turns scores into a plan that meets the budget.
    """
    found = catalogue()
    if json:
        emit(found)
        return
    for kind, entries in found.items():
        extra = {"methods": "paper", "criteria": "needs", "criteria of single weights": "needs"}.get(kind)
        table = plain_table("name", "what it does", "options and defaults", *([extra] if extra else []), title=kind)
        for entry in entries:
            last = [_extra(entry, extra)] if extra else []
            row(table, entry["name"], entry["summary"], _options(entry["options"]), *last)
        console().print(table)


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Everything registered, as plain data."""
    from ..allocation.base import ALLOCATORS
    from ..criteria.base import CRITERIA
    from ..methods.base import METHODS
    from ..sparsity.base import WEIGHT_CRITERIA

    return {
        "methods": [_entry(c) | {"paper": c.paper, "trains": c.trains} for c in METHODS.all().values()],
        "criteria": [_entry(c) | {"needs": sorted(c.needs)} for c in CRITERIA.all().values()],
        "criteria of single weights": [_entry(c) | {"needs": sorted(c.needs)} for c in WEIGHT_CRITERIA.all().values()],
        "allocators": [_entry(c) for c in ALLOCATORS.all().values()],
    }


def _entry(kind: Any) -> dict[str, Any]:
    summary = (kind.__doc__ or "").strip().partition("\n")[0]
    plain = kind()
    return {"name": kind.name, "summary": summary, "options": {f.name: getattr(plain, f.name) for f in fields(kind)}}


def _options(options: dict[str, Any]) -> str:
    return "\n".join(f"{name}={'' if value is None else value}" for name, value in options.items())


def _extra(entry: dict[str, Any], field: str) -> str:
    if field == "needs":
        return ", ".join(entry["needs"]) or "nothing"
    return entry["paper"] + ("; works while training" if entry["trains"] else "")
