"""Average percentage of zeros. Hu, Peng, Tai, Tang, "Network Trimming: A Data-Driven Neuron Pruning Approach towards
Efficient Deep Architectures", 2016 (1607.03250).

Claim: a unit whose ReLU gives zero for most examples and positions is redundant. Zeros are counted behind the last ReLU
in front of each layer that reads a unit; where the layer reads pooled maps, in the maps before they were pooled. Of
several layers that read a group the one that sees the fewest zeros counts. Departures: maps that are pooled in another
way than by a pool or a mean, sum or maximum over axes are not found; a layer that reads those is ignored where another
one reads the maps, and else zeros are counted in what it reads, where an average of maps is hardly ever zero. A zero is
0 exactly (the specs' eps = 0), and nothing near it. How many units go is a budget's matter here; the paper's own rule,
what is a standard deviation above a layer's mean, is method "hu2016".
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
    """s_k = 1 - the fraction of zeros in the maps that layers read of unit k, of the layer that reads fewest."""

    needs = frozenset({"activations"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,), from 0 to 1. Raises `BadModel` where layers read negative values: no ReLU stands before them."""
        found = evidence.of("activations", group.name)
        lowest = float(found["floor"].min())
        if lowest < 0:
            raise BadModel(
                f"what layers read of group {group.name!r} goes down to {lowest:.4g}, so it is not behind a ReLU and "
                f'its zeros mean nothing; use "mean-activation", or frozen={group.name!r}'
            )
        zeros = found["zeros"] / found["places"][:, None]
        return 1 - (zeros[found["whole"]] if found["whole"].any() else zeros).amin(0)
