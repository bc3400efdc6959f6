"""Prune in steps: a little, score anew, and further, with training in between if asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from .allocation.base import ALLOCATORS, Allocator, unreachable
from .allocation.choices import Bounded
from .cost.budget import Budget
from .cost.cost import Cost, CostModel
from .errors import BadBudget, BadOption, BudgetUnreachable, NothingToDo
from .evidence.base import Batches
from .graph.example import Example
from .groups.graph import trace
from .groups.group import WIDTHS
from .latency.asked import asked
from .prune import prune
from .pruned import Pruned
from .schedule import Schedule, check_steps, left

Between = Callable[[nn.Module, int], Any]


def prune_in_steps(
    model: nn.Module | Pruned,
    example: Example,
    *,
    budget: Budget,
    steps: int = 5,
    schedule: Schedule = "linear",
    between: Between | None = None,
    allocator: str | Allocator = "ranked",
    batches: Batches | None = None,
    frozen: str | nn.Parameter | Iterable[str | nn.Parameter] = (),
    kinds: Iterable[str] = WIDTHS,
    **options: Any,
) -> Pruned:
    """Prune to the budget in so many steps, each scored on what the one before left; `model` is untouched.

    `schedule`: what is left after each step of every field of the budget, as a part of `model`'s own cost; see
    `secateur.schedule.left`. The last step meets the budget itself. `between(model, step)` may train the cut model in
    place, step 1 being the first; it is called after every cut but the last. A step that has nothing to do is left out.
    Other options are those of `prune`. The plans of the steps are `origin.plans`.

    Raises what `prune` raises, `BudgetUnreachable` and `NothingToDo` before any work, and `BadOption` for steps that
    are no whole number from 1 and for an allocator with fractions of groups, which each step would take anew. Latency
    is measured anew for each step; a limit of a millisecond or less raises `BadBudget`.
    """
    check_steps(steps)
    if "latency" in options:
        raise BadOption("latency is measured anew for what each step leaves: leave `latency` out")
    left(schedule, 1.0, 0, steps)
    chosen = ALLOCATORS.make(allocator)
    _check(chosen)
    net: Any = model.model if isinstance(model, Pruned) else model
    options["frozen"] = withheld = _names(net, frozen)
    options["kinds"] = wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    options["batches"] = None if batches is None else list(batches)
    graph = trace(net, example, frozen=withheld, kinds=wanted)
    cost = CostModel(graph, asked(graph, budget, chosen))
    dense = cost.dense()
    limits = budget.limits(dense)
    _check_limits(limits)
    if isinstance(chosen, Bounded):
        least = cost.at(chosen.choices(graph, cost).least())
        if not _meets(least, limits):
            raise BudgetUnreachable(unreachable(budget, limits, least, dense))
    budgets = [replace(budget, **_at(limits, dense, schedule, step, steps)) for step in range(1, steps + 1)]
    return _run(model, example, budgets, limits, between, allocator=chosen, **options)


def _run(
    model: nn.Module | Pruned,
    example: Example,
    budgets: Sequence[Budget],
    limits: Mapping[str, float],
    between: Between | None,
    **options: Any,
) -> Pruned:
    pruned = model
    for step, budget in enumerate(budgets, start=1):
        try:
            found = pruned = prune(pruned, example, budget=budget, **options)
        except NothingToDo:  # a step before went as far
            continue
        if _meets(found.after, limits):
            break
        if between is not None:
            between(found.model, step)
    assert isinstance(pruned, Pruned)  # `model` itself does not meet the budget, or `limits` had said so
    return pruned


def _at(limits: Mapping[str, float], dense: Cost, schedule: Schedule, step: int, steps: int) -> dict[str, Any]:
    """What each field may be after a step; the limits themselves after the last."""
    if step == steps:
        return dict(limits)
    whole = {field: float(getattr(dense, field)) for field in limits}
    # A limit above the dense cost is none, from the first step on.
    return {
        f: max(limit, whole[f] * left(schedule, min(1.0, limit / whole[f]), step, steps)) for f, limit in limits.items()
    }


def _meets(cost: Cost, limits: Mapping[str, float]) -> bool:
    return all(getattr(cost, field) <= limit for field, limit in limits.items())


def _check_limits(limits: Mapping[str, float]) -> None:
    for field, limit in limits.items():
        if limit <= 1:
            raise BadBudget(
                f"{field} may be {limit:.4g} at most, and a number of 1 or less would be a fraction of what the step "
                "before left; prune at once"
            )


def _names(model: nn.Module, frozen: str | nn.Parameter | Iterable[str | nn.Parameter]) -> list[str | nn.Parameter]:
    """Parameters by name, for the next step's model holds others."""
    names = {id(p): name for name, p in model.named_parameters()} if isinstance(model, nn.Module) else {}
    given = [frozen] if isinstance(frozen, (str, nn.Parameter)) else list(frozen)
    return [names.get(id(f), f) for f in given]


def _check(allocator: Allocator) -> None:
    for option in ("keep", "min_keep", "max_keep"):
        value = getattr(allocator, option, None)
        numbers = value.values() if isinstance(value, Mapping) else () if value is None else (value,)
        if any(option == "keep" or number < 1 for number in numbers):
            raise BadOption(
                f"{option}={value!r} of allocator {allocator.name!r} is a fraction, which each step would take anew of "
                "what the one before left; give numbers of units, or prune at once"
            )
