"""LASSO on channels. He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017
(1707.06168), sec. 3.

Claim: a LASSO regression of what the next layer gives on what each channel adds to it, one coefficient a channel, finds
channels that others can stand in for; the weights are then refitted by least squares (`repair="reconstruct"`).
`choose` is the paper's: the penalty is such that as many channels stay as asked for. The authors' code finds it by
bisection and lets up to a tenth more stay; here it is read off the exact path, and the number is exact. Departures: all
sampled rows count, not at most 400 of them; coefficients and weights do not take turns (an option of that code); that
code has one intercept in all, here each output has one, as it has in the refit, and none where the refit has no place
for it (a bias, or the mean of a norm right behind); of several readers each counts by its relative error, one
coefficient for all; what other groups bring to a reader is left as it is.

`score`, for rankings across groups, is the largest penalty at which a unit is in, from the exact path. For uncorrelated
units this is their share of the energy, which falls as units grow in number, so groups are not on one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..evidence.contributions import problem
from ..evidence.lasso_solver import Vector, entries, lasso_count, lasso_path
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("lasso")
@dataclass(frozen=True)
class Lasso(Criterion):
    """s_k = the largest penalty at which unit k is in the LASSO of what readers give on what units contribute."""

    intercept: bool = True
    needs = frozenset({"weights", "inputs_gram"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        return torch.from_numpy(entries(lasso_path(*self._problem(group, evidence))))

    def choose(self, group: Group, evidence: Evidence, count: int) -> Tensor:
        """(count,)."""
        return torch.from_numpy(lasso_count(*self._problem(group, evidence), count))

    def _problem(self, group: Group, evidence: Evidence) -> tuple[Vector, Vector]:
        found = problem(group, evidence, intercept=self.intercept)
        gram = found.between.sum(0)
        return gram.numpy(), (gram.sum(1) + found.lacks.sum(0)).numpy()
