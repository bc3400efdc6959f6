"""Every allocator with what it needs, so that one law test can hold them all to what they share."""

from __future__ import annotations

from typing import Any

import numpy as np

import secateur
from held import MEETING
from secateur.allocation.base import Allocator
from secateur.allocation.by_sensitivity import BySensitivity
from secateur.allocation.compensated import Compensated
from secateur.allocation.curves import Sensitivity
from secateur.allocation.search import RandomSearch
from secateur.groups.graph import Graph

SEARCHING = sorted({*MEETING, "legr", "sensitivity"})
RATIOS = (0.01, 0.25, 0.5, 0.75)


def table(graph: Graph, seed: int = 0) -> Sensitivity:
    """A table of any numbers, whose smallest ratio leaves one unit of a group of up to a hundred."""
    rng = np.random.default_rng(seed)
    drops = {g.name: np.sort(rng.random(len(RATIOS)))[::-1] for g in graph.groups}
    values = {name: tuple((0.9 - d).tolist()) for name, d in drops.items()}
    return Sensitivity(
        {g.name: g.size for g in graph.groups}, RATIOS, {"accuracy": 0.9}, {"accuracy": False}, {"accuracy": values}
    )


def ready(name: str, graph: Graph, **options: Any) -> Allocator:
    """The allocator of a name, with a table or an objective where it needs one, and few trials."""
    if name == "sensitivity":
        return BySensitivity(table=table(graph), **options)
    if name == "legr":
        return Compensated(objective=lambda plan: -float(len(plan.edits)), generations=8, population=4, **options)
    if name == "random":
        return RandomSearch(trials=4, **options)
    return secateur.allocators()[name](**options)
