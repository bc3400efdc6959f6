"""Optimal brain damage. LeCun, Denker, Solla, "Optimal Brain Damage", NIPS 1989.

Claim: near a minimum, with the Hessian taken as diagonal, taking out weight q costs H_qq w_q^2 / 2. Departure: H_qq is
the empirical Fisher, the mean over batches of (dL/dw_q)^2, not the paper's second derivative by back-propagation;
batches of one example give the Fisher of examples, larger ones its usual stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..evidence.weight_gradients import mean_square
from .base import WeightCriterion, weight_criterion


@weight_criterion("obd")
@dataclass(frozen=True)
class OBD(WeightCriterion):
    """s = F_qq w_q^2 / 2, with F_qq the mean over batches of (dL/dw_q)^2."""

    needs = frozenset({"weights", "weight_squares"})
    scope = "global"

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape."""
        return mean_square(evidence, name).double() * evidence.weight(name).double().square() / 2
