"""How to prune, as chosen on the command line: a method, or a criterion and an allocator, and what these need.

Imports torch: commands import this when they run.
"""

from __future__ import annotations

from dataclasses import dataclass

import typer

from ..allocation.base import ALLOCATORS, Allocator
from ..allocation.given import Given
from ..cost.budget import Budget
from ..criteria.base import CRITERIA, Criterion
from ..evidence.base import Batches, Loss, from_data
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.plan_file import PlanFile
from ..methods.base import METHODS, Method
from ..prune import Repair
from ..training.recipe import Recipe
from .inputs import made


@dataclass(frozen=True)
class Chosen(Method):
    """A criterion and an allocator put together on the command line."""

    scores: Criterion
    spreads: Allocator

    @property
    def criterion(self) -> Criterion:  # type: ignore[override]  # chosen by the instance, not by the class
        """As chosen."""
        return self.scores

    @property
    def allocator(self) -> Allocator:
        """As chosen."""
        return self.spreads


@dataclass(frozen=True)
class Written(Method):
    """What a plan file says."""

    file: PlanFile

    def plan(
        self,
        graph: Graph,
        budget: Budget | None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """The file's plan. Raises `PlanError` where it does not fit."""
        return self.file.plan(graph)


def choose(method: str | None, criterion: str | None, allocator: str | None, per_macs: float | None) -> Method:
    """A method by name, or a criterion and an allocator by name (L2 and one ranking by default).

    Raises `UnknownName`, and a usage error for values, and for options that clash.
    """
    parts = {"--criterion": criterion, "--allocator": allocator, "--per-macs": per_macs}
    given = [flag for flag, value in parts.items() if value is not None]
    if method is not None:
        if given:
            raise typer.BadParameter(f"the method {method!r} decides this itself: leave one out", param_hint=given[0])
        return made(METHODS, method, "--method")
    spec = allocator or "ranked"
    if per_macs is not None:
        spec += f"{',' if ':' in spec else ':'}per_macs={per_macs}"
    return Chosen(made(CRITERIA, criterion or "l2", "--criterion"), made(ALLOCATORS, spec, "--allocator"))


def allowance(text: str | None, method: Method) -> Budget | None:
    """The budget; a usage error where the parts chosen need one. A method by name says itself what it lacks."""
    if text is not None:
        return Budget.parse(text)
    by_itself = isinstance(method.allocator, Given) or getattr(method.allocator, "keep", None) is not None
    if isinstance(method, Chosen) and not by_itself:
        raise typer.BadParameter("how much may be left? For instance macs=0.5", param_hint="--budget")
    return None


def check_steps(steps: int, method: Method, budget: Budget | None) -> None:
    """A usage error where steps are asked for that the method or the lack of a budget does not allow."""
    if steps > 1 and not isinstance(method, Chosen):
        raise typer.BadParameter(f"the method {method.name!r} prunes at once: leave it out", param_hint="--steps")
    if steps > 1 and budget is None:
        raise typer.BadParameter("steps lead to a budget: give one, such as macs=0.5", param_hint="--budget")


def label(method: Method) -> str:
    """`method taylor`, `criterion l2`."""
    return f"criterion {method.scores.name}" if isinstance(method, Chosen) else f"method {method.name}"


def need(method: Method, recipe: Recipe, repair: Repair) -> str | None:
    """Why data is needed, or None where it is not."""
    evidence = ", ".join(from_data(method.criterion.needs))
    if evidence:
        return f"{label(method)} scores from {evidence} over training images"
    if method.folds_means:
        return f"{label(method)} folds the mean, over training images, of what removed units gave"
    if repair != "none":
        return f"--repair {repair} measures what layers see of training images"
    return "--finetune trains on images" if recipe.epochs else None
