"""Standard deviation of activations. One of the criteria that Molchanov, Tyree, Karras, Aila, Kautz, "Pruning
Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017 (1611.06440), compare theirs with.

Claim: a unit that gives much the same whatever it sees can go, for a bias can stand in for it (`repair="fold"` puts it
there). Departure: measured where a unit is read, and averaged over the layers that read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("activation-std")
@dataclass(frozen=True)
class ActivationStd(Criterion):
    """s_k = standard deviation of x_k over examples and positions, averaged over the layers that read unit k."""

    needs = frozenset({"activations"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = evidence.of("activations", group.name)
        count = found["count"][:, None]
        variance = found["square"] / count - (found["sum"] / count).square()
        # The difference of two large sums may be off by their rounding; a deviation is at most half of the range.
        half = (found["highest"] - found["lowest"]) / 2
        return torch.minimum(variance.clamp(min=0).sqrt(), half).mean(0)
