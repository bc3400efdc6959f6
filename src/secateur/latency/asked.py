"""Whether a budget or an allocator goes by latency; then it is measured."""

from __future__ import annotations

from ..allocation.base import Allocator
from ..cost.budget import Budget
from ..cost.latency import Latency
from ..groups.graph import Graph
from .measure import measure_latency


def asked(graph: Graph, budget: Budget | None, allocator: Allocator) -> Latency | None:
    """Latency as measured on this machine, where a budget or an allocator goes by it; else None."""
    by_budget = budget is not None and budget.latency_ms is not None
    if not by_budget and getattr(allocator, "round_to", 1) != "auto":
        return None
    engine, threads = (budget.engine, budget.threads) if budget else ("eager", 1)
    return measure_latency(graph, engine, threads=threads)
