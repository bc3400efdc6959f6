"""Average percentage of zeros. Hu, Peng, Tai, Tang, "Network Trimming: A Data-Driven Neuron Pruning Approach towards
Efficient Deep Architectures", 2016 (1607.03250).

Claim: a unit whose ReLU gives zero for most examples and positions is redundant. Departures: zeros are counted where a
unit is read, so behind its ReLU and, where there is one, its pooling; of several layers that read a group the one that
sees the fewest zeros counts. The paper removes what is a standard deviation above a layer's mean and trains, again and
again; here a budget says how much goes, at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("apoz")
@dataclass(frozen=True)
class APoZ(Criterion):
    """s_k = 1 - the fraction of zeros among what layers read of unit k, of the layer that reads fewest."""

    needs = frozenset({"activations"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,), from 0 to 1. Raises `BadModel` where layers read negative values: no ReLU stands before them."""
        found = evidence.of("activations", group.name)
        lowest = float(found["lowest"].min())
        if lowest < 0:
            raise BadModel(
                f"what layers read of group {group.name!r} goes down to {lowest:.4g}, so it is not behind a ReLU and "
                f'its zeros mean nothing; use "mean-activation", or frozen={group.name!r}'
            )
        return 1 - (found["zeros"] / found["count"][:, None]).amin(0)
