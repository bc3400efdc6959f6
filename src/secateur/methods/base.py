"""The contract of a method: one published way to prune, as a frozen dataclass of a criterion, an allocator and hooks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from ..allocation.base import Allocator
from ..allocation.ranked import Ranked
from ..cost.budget import Budget
from ..criteria.base import Criterion
from ..criteria.evidence import Batches, Loss
from ..criteria.l2 import L2
from ..errors import NeedsData
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..prune import allocate, score
from ..registry import Registry
from ..surgery.fold import fold_means
from .hook import Hook


@dataclass(frozen=True)
class Method(Hook):
    """What one paper does to a network.

    A subclass sets `criterion` and `allocator`, or overrides `plan`. Where `trains` is true the method works while the
    network trains: pass it to the training loop as a hook (`fit(..., hooks=[method])`) before asking for its plan.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""  # "Li et al., ICLR 2017 (1608.08710)"
    trains: ClassVar[bool] = False

    @property
    def criterion(self) -> Criterion:
        """How units are scored."""
        return L2()

    @property
    def allocator(self) -> Allocator:
        """How scores become a plan."""
        return Ranked()

    @property
    def fold(self) -> Literal["none", "mean"]:
        """What happens to constants that removed units leave behind."""
        return "none"

    def plan(
        self,
        graph: Graph,
        budget: Budget | None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """Score and allocate. Raises `NeedsData` and what `score` and `allocate` raise."""
        held = None if batches is None else list(batches)
        scores = score(graph, self.criterion, batches=held, loss=loss, seed=seed)
        plan = allocate(graph, scores, budget, allocator=self.allocator)
        if self.fold == "mean":
            if not held:
                raise NeedsData(f"method {self.name!r} folds the mean of removed units and needs batches for it")
            plan = fold_means(graph, plan, [inputs for inputs, _ in held])
        return plan

    def options(self) -> dict[str, Any]:
        """The method's own fields, as plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


METHODS: Registry[Method] = Registry("method", __package__)
method = METHODS.register
