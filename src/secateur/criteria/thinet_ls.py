"""ThiNet with a refit at every step: after Luo, Wu, Lin, ICCV 2017 (1707.06342), sec. 3.2.

Claim: none of the paper's, which chooses channels as if the others stayed as they are and only then rescales those that
are left, so that of two equal channels neither looks superfluous. Departure: here the channel goes whose loss costs
least once all others are rescaled, one factor a channel and reader; one of two equal channels costs nothing. An
intercept is fitted with them (`intercept=False` does without) where `repair="reconstruct"` has a place for one.

Scores are the relative error of the readers once a unit and all with lower scores are gone and the rest is rescaled:
one scale for all groups, a fraction of what their readers give.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..evidence.contributions import problem, rising
from ..evidence.least_squares import Layer, check_ridge, eliminate, solve
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("thinet-ls")
@dataclass(frozen=True)
class ThiNetLS(Criterion):
    """s_k = min over w of |y - sum over kept j of w_j x_j W_j|^2 / |y|^2 of the readers when k goes, least first."""

    intercept: bool = True
    ridge: float = 1e-9  # of the mean energy of a contribution
    needs = frozenset({"weights", "inputs_gram"})
    comparable = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ridge(self.ridge)

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        each = torch.arange(group.size)[:, None]
        found = problem(group, evidence, intercept=self.intercept)
        layers = []
        for gram, lacks in zip(found.between, found.lacks, strict=True):
            factors = 1.0 + solve(gram, lacks[:, None], self.ridge)  # the best while all are there
            layers.append(Layer(gram, factors.T, each))
        return rising(*eliminate(layers, ridge=self.ridge))
