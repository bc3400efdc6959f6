"""GraSP. Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020
(2002.07376).

Claim: before training, what must be preserved is the flow of gradients |g|^2. Taking out weight j changes it by
-2 w_j (H g)_j to first order, so those go with which it falls least, or grows. The loss is that of logits divided by a
`temperature`. Departures: H g is added up batch by batch, which is the paper's for one batch (the authors' code takes g
over two halves of a class-balanced batch first); the last layer is not drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence, Loss
from .base import WeightCriterion, fields, normalised, weight_criterion


@weight_criterion("grasp")
@dataclass(frozen=True)
class GraSP(WeightCriterion):
    """s = w * (H g)_w, of all weights that are ranked together divided by the sum of |s|."""

    temperature: float = 200.0
    needs = frozenset({"weights", "curvature"})
    scope = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < float("inf"):
            raise BadOption(f"temperature={self.temperature!r}: give a number above 0; 1 leaves the loss as it is")

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape, of either sign."""
        found = fields(evidence, "curvature", name)
        return evidence.weight(name).double() * found["flow"].double() / found["count"]

    def scores(self, names: Iterable[str], evidence: Evidence) -> dict[str, Tensor]:
        """Absolute values add up to 1."""
        return normalised(super().scores(names, evidence))

    def loss(self, loss: Loss) -> Loss:
        """Of the logits divided by the temperature."""
        if self.temperature == 1:
            return loss

        def tempered(output: Any, target: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise BadOption(
                    f"temperature={self.temperature!r}: the model gives a {type(output).__name__}, which cannot be "
                    "divided; give temperature=1, and a loss that divides its logits"
                )
            return loss(output / self.temperature, target)

        return tempered
