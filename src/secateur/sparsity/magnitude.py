"""Magnitude. Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015
(1506.02626), sec. 3.

Claim: weights of small absolute value can go, layer by layer, if those that stay are trained on. The paper's threshold
is a quality parameter times the standard deviation of the layer's weights: `deviations`. Without it the pattern says
how many weights go (the percentile), with ties broken by position, so that counts are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence
from .base import WeightCriterion, weight_criterion


@weight_criterion("magnitude")
@dataclass(frozen=True)
class Magnitude(WeightCriterion):
    """s = |w|; with `deviations` = q, weights below q times the standard deviation of their layer go."""

    deviations: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deviations is not None and not 0 < self.deviations < float("inf"):
            raise BadOption(f"deviations={self.deviations!r}: give a number above 0, such as 0.7")

    @property
    def counts(self) -> bool:
        """With `deviations`."""
        return self.deviations is not None

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape."""
        weight = evidence.weight(name).abs()
        return weight if weight.dtype.itemsize >= 4 else weight.float()

    def threshold(self, name: str, evidence: Evidence) -> float | None:
        """q * std, of the whole layer as a population."""
        if self.deviations is None:
            return None
        return self.deviations * float(evidence.weight(name).double().std(correction=0))
