"""Random scores: the baseline that every criterion has to beat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("random")
@dataclass(frozen=True)
class Random(Criterion):
    """Uniform in [0, 1), a function of the seed and the group's name alone."""

    needs = frozenset()
    comparable = True
    units = "any"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        key = hashlib.sha256(f"{evidence.seed}/{group.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
        return torch.rand(group.size, generator=generator, dtype=torch.float64)
