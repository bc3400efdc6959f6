"""Norm of all that goes with a unit. Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023
(2301.12900), sec. 3.3.

Claim: what makes a unit cheap to remove is that all its coupled parameters are small together: the weights that write
it, those that read it, and the scale of its norm. The sum of their squares, `reduction="sum"`, is the published score.
Departures: "mean" divides each member's part by its mean over the units first, so that none drowns the others by its
scale (the paper's plain mean over members ranks as the sum does); `p=1` adds up absolute values, which is the L1 norm
of writers and readers. Scales that are trained apart from a norm, shifts and biases do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence
from ..groups.group import Group, Member
from .base import Criterion, combined, criterion, weight_of
from .weights import matrices


@criterion("group-norm")
@dataclass(frozen=True)
class GroupNorm(Criterion):
    """s_k = sum of |w|^p over all slices of unit k: of layers that write it, that read it, and scales of norms."""

    reduction: Literal["sum", "mean", "max", "min", "l2", "prod"] = "sum"
    p: float = 2.0

    def __post_init__(self) -> None:
        if self.reduction == "first":  # type: ignore[comparison-overlap]  # of layers that write; here all members count
            raise BadOption("reduction='first': a group of members has no first; give sum, mean, max, min, l2 or prod")
        super().__post_init__()
        if not 0 < self.p < float("inf"):
            raise BadOption(f"p={self.p!r}: give a power above 0, such as 2")

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where a weight that writes the group is computed from others."""
        return combined(list(slices(group, evidence, self.p).values()), self.reduction)


def slices(group: Group, evidence: Evidence, p: float = 2.0) -> dict[tuple[str, int], Tensor]:
    """(weight, axis) -> (units,) float64, sum of |w|^p over the slice of each unit. Raises `BadModel`."""
    for source in group.sources:
        weight_of(group, source, evidence)
    scales = {s.writer.norm.weight for s in group.sources if s.writer.norm}
    parameters = dict(evidence.model.named_parameters())
    found = {}
    for member, name, weight in matrices(group, evidence, "out", "in"):
        found[name, member.axis] = _sums(weight.movedim(member.axis, 0).flatten(1), member, p)
    for member in group.members:
        scale = member.tensor in scales or member.tensor.rpartition(".")[2] == "weight"
        if member.role == "affine" and scale and member.tensor in parameters:
            found[member.tensor, member.axis] = _sums(parameters[member.tensor].detach()[:, None], member, p)
    return found


def _sums(rows: Tensor, member: Member, p: float) -> Tensor:
    """(indices, weights of each) -> (units,) float64."""
    each = torch.linalg.vector_norm(rows, p, dim=1, dtype=torch.float64).cpu() ** p
    return each[torch.from_numpy(member.index)].sum(1)


def shrinkage(importance: Tensor, alpha: float = 4.0) -> Tensor:
    """How hard sparse training pulls at each unit: 2 ** (alpha * (max - I) / (max - min)), from 1 to 2 ** alpha.

    (units,) -> (units,). The penalty is the sum of shrinkage * I_k, the shrinkage held fixed, so that with p=2 a weight
    w of unit k has the gradient 2 * shrinkage_k * w. Where all units are alike it is 1 everywhere.
    """
    below = importance.max() - importance
    return 2 ** (alpha * below / below.max().clamp_min(torch.finfo(below.dtype).tiny))
