"""Prune any PyTorch model by any published method, to an exact budget, and prove that nothing else changed."""

from .allocation.base import ALLOCATORS, Allocator
from .allocation.transfer import Design
from .cost.budget import Budget
from .cost.cost import Cost
from .criteria.base import CRITERIA, Criterion
from .errors import SecateurError
from .evidence.base import Evidence
from .groups.graph import Graph
from .groups.group import Group
from .groups.plan import Drop, Fold, Keep, Merge, Plan
from .groups.plan_file import PlanFile
from .latency.measure import measure_latency
from .methods.base import METHODS, Method
from .prune import Pruned, allocate, choose, collect, cut, prune, prune_, score, trace
from .sparsity.base import WEIGHT_CRITERIA, WeightCriterion
from .sparsity.iterative import iterative
from .sparsity.pattern import Pattern
from .sparsity.sparse import Sparse
from .sparsity.sparsify import sparsify
from .stepwise import prune_in_steps
from .surgery.carry import carry
from .surgery.checkpoint import load, save

__version__ = "0.1.0"


def criteria() -> dict[str, type[Criterion]]:
    """All criteria by name."""
    return CRITERIA.all()


def weight_criteria() -> dict[str, type[WeightCriterion]]:
    """All criteria for single weights by name."""
    return WEIGHT_CRITERIA.all()


def allocators() -> dict[str, type[Allocator]]:
    """All allocators by name."""
    return ALLOCATORS.all()


def methods() -> dict[str, type[Method]]:
    """All methods by name."""
    return METHODS.all()


__all__ = [
    "Allocator",
    "Budget",
    "Cost",
    "Criterion",
    "Design",
    "Drop",
    "Evidence",
    "Fold",
    "Graph",
    "Group",
    "Keep",
    "Merge",
    "Method",
    "Pattern",
    "Plan",
    "PlanFile",
    "Pruned",
    "SecateurError",
    "Sparse",
    "WeightCriterion",
    "__version__",
    "allocate",
    "allocators",
    "carry",
    "choose",
    "collect",
    "criteria",
    "cut",
    "iterative",
    "load",
    "measure_latency",
    "methods",
    "prune",
    "prune_",
    "prune_in_steps",
    "save",
    "score",
    "sparsify",
    "trace",
    "weight_criteria",
]
