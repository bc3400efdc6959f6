"""SNIP. Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019
(1810.02340).

Claim: before any training, |w * dL/dw|, the effect of a factor on each connection, normalised over all of them, says
which connections a task needs. Gradients are averaged over the examples of all batches before the absolute value is
taken, for a loss that is a mean over examples; the paper gives one batch. Departures: biases are not pruned (the
authors' code prunes every parameter), and batch norms run as in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from .base import WeightCriterion, normalised, weight_criterion


@weight_criterion("snip")
@dataclass(frozen=True)
class SNIP(WeightCriterion):
    """s = |w * dL/dw|, of all weights that are ranked together divided by its sum."""

    needs = frozenset({"weights", "weight_gradients"})
    scope = "global"

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape, as it is."""
        if name not in evidence.values.get("weight_gradients", {name: {}}):  # the loss does not depend on it
            return evidence.weight(name).double() * 0
        found = evidence.of("weight_gradients", name)
        return (evidence.weight(name).double() * found["total"].double() / found["count"]).abs()

    def scores(self, names: Iterable[str], evidence: Evidence) -> dict[str, Tensor]:
        """Adding up to 1."""
        return normalised(super().scores(names, evidence))
