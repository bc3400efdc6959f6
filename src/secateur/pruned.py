"""What pruning gives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import nn

from .cost.cost import Cost
from .groups.plan import Plan
from .surgery.carry import Originals
from .surgery.checkpoint import Origin
from .surgery.cut import Edits
from .surgery.verify import Check


@dataclass(frozen=True, eq=False)
class Pruned:
    """A smaller model, the plan that made it, its cost before and after, and the check that nothing else changed."""

    model: nn.Module = field(repr=False)
    plan: Plan = field(repr=False)
    before: Cost
    after: Cost
    check: Check
    origin: Origin = field(repr=False)
    edits: Edits = field(repr=False, default_factory=lambda: Edits({}, {}))
    originals: Originals = field(repr=False, default=())

    def followed_by(self, later: Pruned) -> Pruned:
        """The later one, which pruned this one's model, counted from this one's original."""
        return replace(later, before=self.before, origin=self.origin.followed_by(later.plan))
