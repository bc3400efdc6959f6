"""Mean activation. One of the criteria that Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural
Networks for Resource Efficient Inference", ICLR 2017 (1611.06440), compare theirs with.

Claim: a unit that is hardly ever active detects nothing that matters. Departures: absolute values, so that it also says
something where no ReLU stands (GELU, attention, residual streams); measured where a unit is read, and averaged over
the layers that read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("mean-activation")
@dataclass(frozen=True)
class MeanActivation(Criterion):
    """s_k = mean of |x_k| over examples, positions, and the layers that read unit k."""

    needs = frozenset({"activations"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = evidence.of("activations", group.name)
        return (found["absolute"] / found["count"][:, None]).mean(0)
