"""Block influence. Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024
(2403.03853), eq. 1.

Claim: a residual block whose output points where its input does changes little, and can go. For feature maps, which the
paper has none of, a vector is what the channels hold at one position. Scores are taken once, on the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("block-influence")
@dataclass(frozen=True)
class BlockInfluence(Criterion):
    """s_k = 1 - mean over examples and positions of cos(x, block_k(x))."""

    needs = frozenset({"blocks"})
    comparable = True
    units = "depth"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(blocks,), from 0 to 2."""
        found = evidence.of("blocks", group.name)
        return 1 - found["cosine"] / found["count"]
