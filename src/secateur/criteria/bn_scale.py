"""Batch-norm scale |gamma|. Liu et al., "Network Slimming", ICCV 2017 (1708.06519), sec. 3.

Claim: after training with an L1 penalty on the scales, a channel with a small scale can go; one threshold for all
layers. Where several norms write a group, the largest scale counts: a channel goes only if all agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("bn-scale")
@dataclass(frozen=True)
class BNScale(Criterion):
    """s_k = max over the batch norms that write unit k of |gamma_k|."""

    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where a layer that writes the group has no batch norm behind it."""
        scales = []
        for source in group.sources:
            norm = source.writer.norm
            if norm is None or norm.weight is None:
                raise BadModel(
                    f"group {group.name!r} is written by {source.writer.path!r}, and no batch norm with a "
                    f"scale follows; use another criterion, or frozen={group.name!r}"
                )
            scale = evidence.weight(norm.weight).to("cpu", torch.float64).abs()
            scales.append(scale[torch.from_numpy(source.index)].amax(1))
        return torch.stack(scales).amax(0)
