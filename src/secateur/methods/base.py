"""The contract of a method: one published way to prune, a frozen dataclass of a criterion, an allocator and hooks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..allocation.base import Allocator
from ..allocation.ranked import Ranked
from ..cost.budget import Budget
from ..criteria.base import Criterion
from ..criteria.l2 import L2
from ..evidence.base import Batches, Loss, pairs
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..prune import allocate, choose, collect, score
from ..registry import Options, Registry
from ..surgery.fold import fold_means
from .hook import Hook


@dataclass(frozen=True)
class Method(Hook, Options):
    """What one paper does to a network.

    A subclass sets `criterion` and `allocator`, or overrides `plan`. Where `trains` is true the method works while the
    network trains: pass it to the training loop as a hook (`fit(..., hooks=[method])`) before asking for its plan.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""  # "Li et al., ICLR 2017 (1608.08710)"
    trains: ClassVar[bool] = False
    criterion: ClassVar[Criterion] = L2()

    @property
    def allocator(self) -> Allocator:
        """How scores become a plan."""
        return Ranked()

    @property
    def folds_means(self) -> bool:
        """Whether the mean of what layers saw of removed units is folded into them."""
        return False

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
        held = None if batches is None else list(pairs(batches))
        evidence = collect(graph, self.criterion, batches=held, loss=loss, seed=seed)
        scores = score(graph, self.criterion, evidence=evidence)
        plan = choose(graph, allocate(graph, scores, budget, allocator=self.allocator), self.criterion, evidence)
        return fold_means(graph, plan, [inputs for inputs, _ in held or ()]) if self.folds_means else plan

    def options(self) -> dict[str, Any]:
        """The method's own fields, as plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


METHODS: Registry[Method] = Registry("method", __package__)
method = METHODS.register
