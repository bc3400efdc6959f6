"""Sensitivity: each group alone at several keep ratios, masked, not cut; measured once, used for any budget.

`allocation/curves.py` has the paper, the table itself and what follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from .. import files
from ..allocation.curves import DENSE, KIND, Sensitivity, about, assembled, wide
from ..allocation.uniform import Uniform
from ..errors import BadModel, BadOption, NeedsData
from ..evidence.base import Batches
from ..groups.graph import Graph
from ..groups.plan import Keep, Plan
from ..groups.scores import Scores
from ..ledger import Key, Ledger, Progress
from ..prune import allocate
from ..training.fingerprint import describe
from .masked import Held, Measure, measured, weighted

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Metric:
    """`of(output, target)` is the mean over a batch; `lower`: less is better."""

    of: Measure
    lower: bool = False


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """The fraction of labels (n, ...) that are the largest of the outputs (n, classes, ...)."""
    return (output.argmax(1) == target).double().mean()


METRICS = {"accuracy": Metric(accuracy), "loss": Metric(nn.functional.cross_entropy, lower=True)}


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
    facts = about(graph) | {
        "batches": held.fingerprint(),
        "scores": files.checksum({name: s.contiguous() for name, s in scores.items()}, ""),
        "metrics": {name: {"lower": m.lower, "by": describe(m.of)} for name, m in by.items()},
    }
    with Ledger(path, KIND, facts, len(by)) as ledger:
        rows = _measured(graph, held, by, plans, ledger, progress or (lambda done, total: None))
    return assembled(graph, wanted, facts["metrics"], rows)


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
    asked = [(g.name, ratio) for g in wide(graph) for ratio in plans]
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


def _finite(values: Tensor, names: list[str], group: str) -> Tensor:
    for name, value in zip(names, values.tolist(), strict=True):
        if not math.isfinite(value) and not group:
            raise NeedsData(f"the {name} of the whole model is {value} on these batches; changes of it mean nothing")
        if not math.isfinite(value):
            raise BadModel(
                f"with group {group!r} pruned the {name} is {value}; leave the group out by frozen={group!r}"
            )
    return values
