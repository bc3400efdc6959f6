"""Wanda. Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024
(2306.11695).

Claim: |w| times the norm of what the weight meets, ranked among the inputs of each output, prunes language models in
one shot without an update. Where the inputs of a layer are uncorrelated it is the best choice without an update there
is. As in the authors' code, what each block reads is taken from the model whose earlier blocks are pruned already
(`sequential`). Departure: embeddings and the last layer are treated as the caller says, by `exclude`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from .base import WeightCriterion, fields, weight_criterion


@weight_criterion("wanda")
@dataclass(frozen=True)
class Wanda(WeightCriterion):
    """s_ij = |w_ij| * sqrt(sum over rows of x_j^2), ranked row by row."""

    sequential: bool = True  # type: ignore[misc]  # an option here
    needs = frozenset({"weights", "product_squares"})
    scope = "row"

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape."""
        weight = evidence.weight(name).double()
        return weight.abs() * fields(evidence, "product_squares", name)["square"].sqrt().to(weight.device)
