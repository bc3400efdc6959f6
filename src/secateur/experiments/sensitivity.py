"""Sensitivity: each group alone at several keep ratios, masked, not cut; measured once, used for any budget.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017 (1608.08710), sec. 3.2: layers
whose curve is flat give more. Departure: the paper sets ratios by hand, for each stage; here they follow from a
tolerated drop, or from a budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import files
from ..allocation.base import least_removal
from ..allocation.uniform import Uniform
from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadModel, BadOption, CheckpointError, NeedsData, UnknownName
from ..evidence.base import Batches, fingerprint
from ..groups.graph import Graph
from ..groups.group import Group
from ..groups.plan import Keep, Plan
from ..groups.scores import Scores
from ..prune import allocate
from ..training.fingerprint import describe
from .ledger import Key, Ledger, Progress, read, refuse_other
from .masked import Held, Measure, measured, weighted

KIND = "table of sensitivities"
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DENSE: Key = ("", "")


@dataclass(frozen=True)
class Metric:
    """`of(output, target)` is the mean over a batch; `lower`: less is better."""

    of: Measure
    lower: bool = False


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """The fraction of labels (n, ...) that are the largest of the outputs (n, classes, ...)."""
    return (output.argmax(1) == target).double().mean()


METRICS = {"accuracy": Metric(accuracy), "loss": Metric(nn.functional.cross_entropy, lower=True)}


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

    def keep_to(self, graph: Graph, budget: Budget, metric: str = "accuracy") -> dict[str, float]:
        """As `keep_for` the least tolerated drop that meets a budget.

        Raises `BudgetUnreachable` where the smallest ratios do not meet it, `NothingToDo`, `UnknownName`.
        """
        tolerated = sorted({d for drops in self.drops(metric).values() for d in drops})

        def kept(step: int) -> dict[str, float]:
            return self.keep_for(tolerated[step - 1], metric) if step else dict.fromkeys(self.sizes, 1.0)

        def widths(step: int) -> dict[str, int]:
            ratios = kept(step)
            return {g.name: width(ratios[g.name], g.size) if g.name in ratios else g.size for g in graph.groups}

        return kept(least_removal(len(tolerated), widths, CostModel(graph), budget))

    @classmethod
    def load(cls, path: str | Path, graph: Graph) -> Sensitivity:
        """What `sensitivity(..., path=)` stored: the ratios that all groups have. Raises `CheckpointError`."""
        rows, facts = read(Path(path), KIND)
        refuse_other(Path(path), facts, _facts(graph))
        groups = [g.name for g in _wide(graph)]
        ratios = {text for _, text in rows if text and all((g, text) in rows for g in groups)}
        if not ratios:
            raise CheckpointError(f"{path} holds no ratio that all groups have yet; give the same call again to go on")
        return _assembled(graph, tuple(sorted(map(float, ratios))), facts["metrics"], rows)


def width(ratio: float, size: int) -> int:
    """Units that are kept: the fraction as written, rounded down, at least one."""
    return max(1, int(Fraction(str(ratio)) * size))


def sensitivity(
    graph: Graph,
    batches: Batches,
    scores: Scores,
    ratios: Iterable[float] = RATIOS,
    *,
    metrics: Mapping[str, Metric] | None = None,
    path: str | Path | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Each group alone, with the highest scores of it kept at each ratio, as `Uniform(keep=...)` would; by masking.

    Residual blocks, which have no width, are left out. `metrics`: accuracy and cross entropy of a classifier unless
    given. With a `path`, what is measured is kept there: after a kill the same call goes on, and other ratios add to
    it. The model is not touched.
    Raises `BadOption` for a ratio that is none, `PlanError` for scores that do not fit, `NeedsData` for empty batches
    and for a whole model whose metric is not finite, `BadModel` where it is not finite with a group pruned,
    `CheckpointError` for a file of another model, other batches, scores or metrics.
    """
    wanted = tuple(sorted(set(map(float, ratios))))
    if not wanted or not all(0 < r <= 1 for r in wanted):
        raise BadOption(f"ratios={wanted}: give fractions to keep, above 0 and up to 1, such as 0.5")
    held, by = Held.of(batches), dict(metrics or METRICS)
    # The plans that will be made: what is masked here is what is cut there.
    plans = {str(r): allocate(graph, scores, allocator=Uniform(keep=r)) for r in wanted}
    facts = _facts(graph) | {
        "batches": held.fingerprint(),
        "scores": files.checksum({name: s.contiguous() for name, s in scores.items()}, ""),
        "metrics": {name: {"lower": m.lower, "by": describe(m.of)} for name, m in by.items()},
    }
    with Ledger(path, KIND, facts, len(by)) as ledger:
        rows = _measured(graph, held, by, plans, ledger, progress or (lambda done, total: None))
    return _assembled(graph, wanted, facts["metrics"], rows)


def _measured(
    graph: Graph,
    held: Held,
    by: dict[str, Metric],
    plans: dict[str, Plan],
    ledger: Ledger,
    progress: Progress,
) -> dict[Key, Tensor]:
    """The rows of all groups at the ratios of the plans; those that the ledger lacks are measured and entered."""

    def measure(name: str, units: Iterable[int] | None) -> Tensor:
        kept = {} if units is None else {name: units}
        values = weighted(measured(graph, held, kept, [m.of for m in by.values()]), held.examples)
        return _finite(values, list(by), name)

    if DENSE not in ledger:
        ledger[DENSE] = measure("", None)
    asked = [(g.name, ratio) for g in _wide(graph) for ratio in plans]
    done = {(name, _of(plans[r], name)): ledger[name, r] for name, r in asked if (name, r) in ledger}
    todo = [key for key in asked if key not in ledger]
    for number, (name, ratio) in enumerate(todo):
        progress(len(asked) - len(todo) + number, len(asked))
        units = _of(plans[ratio], name)
        if (name, units) not in done:  # in a small group two ratios may keep the same units
            done[name, units] = ledger[DENSE] if units is None else measure(name, units)
        ledger[name, ratio] = done[name, units]
    progress(len(asked), len(asked))
    return {key: ledger[key] for key in (DENSE, *asked)}


def _of(plan: Plan, name: str) -> tuple[int, ...] | None:
    """The units of a group that a plan keeps; None for all."""
    return next((e.units for e in plan.edits if isinstance(e, Keep) and e.group == name), None)


def _wide(graph: Graph) -> list[Group]:
    """The groups that have a width. Raises `BadModel` where there is none."""
    found = [g for g in graph.groups if g.least]
    if not found:
        raise BadModel("no group has a width to prune; `secateur inspect` says what is frozen, and why")
    return found


def _facts(graph: Graph) -> dict[str, Any]:
    return {"weights": fingerprint(graph.model), "groups": [[g.name, g.size] for g in graph.groups]}


def _finite(values: Tensor, names: list[str], group: str) -> Tensor:
    for name, value in zip(names, values.tolist(), strict=True):
        if not math.isfinite(value) and not group:
            raise NeedsData(f"the {name} of the whole model is {value} on these batches; changes of it mean nothing")
        if not math.isfinite(value):
            raise BadModel(
                f"with group {group!r} pruned the {name} is {value}; leave the group out by frozen={group!r}"
            )
    return values


def _assembled(
    graph: Graph, ratios: tuple[float, ...], metrics: Mapping[str, Any], rows: Mapping[Key, Tensor]
) -> Sensitivity:
    curves = {g.name: [rows[g.name, str(r)].tolist() for r in ratios] for g in _wide(graph)}
    return Sensitivity(
        {g.name: g.size for g in _wide(graph)},
        ratios,
        dict(zip(metrics, rows[DENSE].tolist(), strict=True)),
        {name: m["lower"] for name, m in metrics.items()},
        {name: {g: tuple(row[i] for row in c) for g, c in curves.items()} for i, name in enumerate(metrics)},
    )
