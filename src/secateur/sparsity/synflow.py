"""SynFlow. Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020 (2006.05467).

Claim: with every weight replaced by its absolute value and ones as input, w * dR/dw, R the sum of the outputs, is
conserved: what comes into a unit goes out of it, and each layer holds R in all. So the last weight of a layer has the
highest score there can be, and pruning in many rounds, each scored anew, never empties a layer. Round e of n leaves the
density to the power of e / n. Departures: norms are passed by and biases left out, where the authors' code keeps batch
norms with absolute statistics; all is in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence
from .base import WeightCriterion, fields, weight_criterion


@weight_criterion("synflow")
@dataclass(frozen=True)
class SynFlow(WeightCriterion):
    """s = |w| * dR/d|w|, as a part of R, anew in each of so many rounds."""

    rounds: int = 100  # type: ignore[misc]  # an option here
    needs = frozenset({"weights", "weight_synflow"})
    scope = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rounds, bool) or not isinstance(self.rounds, int) or self.rounds < 1:
            raise BadOption(f"rounds={self.rounds!r}: give a whole number from 1; the paper gives 100")

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape, from 0; of each layer of a chain they add up to 1."""
        return fields(evidence, "weight_synflow", name)["through"]
