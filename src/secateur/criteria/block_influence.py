"""Block influence. Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024
(2403.03853), eq. 1; with `angular`, Gromov, Tirumala, Shapourian, Glorioso, Roberts, "The Unreasonable Ineffectiveness
of the Deeper Layers", 2024 (2403.17887), eq. 7.

Claim: a residual block whose output points where its input does changes little, and can go. For feature maps, which the
papers have none of, a vector is what the channels hold at one position; where a ReLU leaves it all zeros before and
after the block, nothing has changed, and where only before or only after, the cosine is 0. Scores are taken once, on
the whole model. Departures: the angular distance is averaged over all positions, where the paper takes that at the last
token; and blocks are scored one by one, where the paper takes out the run of n blocks that changes least as a whole.
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
    """s_k = 1 - mean over examples and positions of cos(x, block_k(x)); `angular`: the mean of arccos(...) / pi."""

    angular: bool = False

    needs = frozenset({"blocks"})
    comparable = True
    units = "depth"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(blocks,), from 0 to 2; `angular`: to 1. Raises `BadModel` where channels cannot be told from positions."""
        found = evidence.of("blocks", group.name)
        return found["angle" if self.angular else "distance"] / found["count"]
