"""Random pruning: without it a comparison says little. Mittal et al., "Recovering from Random Pruning", WACV 2018."""

from __future__ import annotations

from dataclasses import dataclass

from ..allocation.base import Allocator
from ..allocation.uniform import Uniform
from ..criteria.random import Random
from .base import Method, method


@method("random")
@dataclass(frozen=True)
class RandomPruning(Method):
    """Random units, the same fraction of every group."""

    paper = "Mittal et al., WACV 2018 (1801.10447)"
    criterion = Random()

    @property
    def allocator(self) -> Allocator:
        """The same fraction everywhere."""
        return Uniform()
