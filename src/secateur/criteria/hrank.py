"""Rank of feature maps. Lin, Ji, Wang, Zhang, Zhang, Tian, Shao, "HRank: Filter Pruning using High-Rank Feature Map",
CVPR 2020 (2002.10179).

Claim: the average rank of the maps that a filter gives hardly changes with the images, so that a few hundred tell it;
maps of low rank hold little and can go. Departures: a map is what a layer reads, behind norm and activation (where it
reads pooled or flattened maps, the maps before that); of several layers that read a group the average counts. How much
of each layer goes is chosen by hand in the paper, here by a budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("hrank")
@dataclass(frozen=True)
class HRank(Criterion):
    """s_k = rank of unit k's feature map, averaged over examples and over the layers that read it."""

    needs = frozenset({"ranks"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where no layer reads feature maps of the group."""
        found = evidence.of("ranks", group.name)
        return (found["ranks"] / found["count"][:, None]).mean(0)
