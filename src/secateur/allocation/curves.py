"""Sensitivity as data: what each group alone costs at several keep ratios, and the ratios that follow from it.

`experiments/sensitivity.py` measures it. Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets",
ICLR 2017 (1608.08710), sec. 3.2: layers whose curve is flat give more. Departure: the paper sets ratios by hand, for
each stage; here they follow from a tolerated drop, or from a budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadModel, CheckpointError, UnknownName
from ..evidence.base import fingerprint
from ..groups.graph import Graph
from ..groups.group import Group
from ..ledger import Key, read, refuse_other
from .base import least_removal

KIND = "table of sensitivities"
DENSE: Key = ("", "")


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """`values[metric][group]` are those at `ratios`, rising, of the model with that group alone pruned."""

    sizes: dict[str, int]  # units of each group
    ratios: tuple[float, ...]
    dense: dict[str, float]  # metric -> value of the whole model
    lower: dict[str, bool]  # metric -> whether less is better
    values: dict[str, dict[str, tuple[float, ...]]]

    def drops(self, metric: str = "accuracy") -> dict[str, tuple[float, ...]]:
        """How much worse each group makes the metric at each ratio; below 0: better. Raises `UnknownName`."""
        if metric not in self.dense:
            raise UnknownName("metric of this sensitivity", metric, self.dense)
        sign, dense = (1 if self.lower[metric] else -1), self.dense[metric]
        return {g: tuple(sign * (v - dense) for v in values) for g, values in self.values[metric].items()}

    def keep_for(self, max_drop: float, metric: str = "accuracy") -> dict[str, float]:
        """Group -> the smallest ratio from which on no larger one costs more than `max_drop`; 1 where there is none.

        In the metric's own units: 0.01 is one percent of accuracy. For `Uniform(keep=...)`. Drops of several groups add
        up, more or less: what all of them cost together is not measured here. Raises `UnknownName`.
        """
        kept: dict[str, float] = {}
        for group, drops in self.drops(metric).items():
            held = list(zip(self.ratios, drops, strict=True))
            while held and held[-1][1] <= max_drop:
                kept[group] = held.pop()[0]
            kept.setdefault(group, 1.0)
        return kept

    def tolerances(self, metric: str = "accuracy") -> list[float]:
        """The drops at which `keep_for` changes, rising; at the first all groups are whole. Raises `UnknownName`."""
        return [-math.inf, *sorted({d for drops in self.drops(metric).values() for d in drops})]

    def keep_to(self, graph: Graph, budget: Budget, metric: str = "accuracy") -> dict[str, float]:
        """As `keep_for` the least tolerated drop that meets a budget.

        Raises `BudgetUnreachable` where the smallest ratios do not meet it, `NothingToDo`, `UnknownName`.
        """
        tolerated = self.tolerances(metric)

        def widths(step: int) -> dict[str, int]:
            return self.widths(graph, self.keep_for(tolerated[step], metric))

        return self.keep_for(tolerated[least_removal(len(tolerated) - 1, widths, CostModel(graph), budget)], metric)

    def widths(self, graph: Graph, kept: Mapping[str, float]) -> dict[str, int]:
        """The units that ratios keep; groups without one are whole."""
        return {g.name: width(kept[g.name], g.size) if g.name in kept else g.size for g in graph.groups}

    @classmethod
    def load(cls, path: str | Path, graph: Graph) -> Sensitivity:
        """What `sensitivity(..., path=)` stored: the ratios that all groups have; frozen groups are left out.

        Raises `CheckpointError` for a file that is none, or that was measured on other weights or groups.
        """
        rows, facts = read(Path(path), KIND)
        groups, told = [[g.name, g.size] for g in wide(graph)], facts.get("groups", [])
        # A group alone was measured, so that groups which are now frozen make no difference.
        same = all(g in told for g in groups)
        refuse_other(Path(path), facts, {"weights": fingerprint(graph.model)} | ({} if same else {"groups": groups}))
        names = [name for name, _ in groups]
        ratios = {text for _, text in rows if text and all((g, text) in rows for g in names)}
        if not ratios:
            raise CheckpointError(f"{path} holds no ratio that all groups have yet; give the same call again to go on")
        return assembled(graph, tuple(sorted(map(float, ratios))), facts["metrics"], rows)


def width(ratio: float, size: int) -> int:
    """Units that are kept: the fraction as written, rounded down, at least one."""
    return max(1, int(Fraction(str(ratio)) * size))


def wide(graph: Graph) -> list[Group]:
    """The groups that have a width. Raises `BadModel` where there is none."""
    found = [g for g in graph.groups if g.least]
    if not found:
        raise BadModel("no group has a width to prune; `secateur inspect` says what is frozen, and why")
    return found


def about(graph: Graph) -> dict[str, Any]:
    """What a table must have been measured on."""
    return {"weights": fingerprint(graph.model), "groups": [[g.name, g.size] for g in graph.groups]}


def assembled(
    graph: Graph, ratios: tuple[float, ...], metrics: Mapping[str, Any], rows: Mapping[Key, Tensor]
) -> Sensitivity:
    """The table of rows that a ledger holds."""
    curves = {g.name: [rows[g.name, str(r)].tolist() for r in ratios] for g in wide(graph)}
    return Sensitivity(
        {g.name: g.size for g in wide(graph)},
        ratios,
        dict(zip(metrics, rows[DENSE].tolist(), strict=True)),
        {name: m["lower"] for name, m in metrics.items()},
        {name: {g: tuple(row[i] for row in c) for g, c in curves.items()} for i, name in enumerate(metrics)},
    )
