"""What all contracts share: laws that raise by name, models that must stay as they were, refusals that are fine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import SecateurError
from ..groups.graph import Graph
from ..groups.plan import Plan
from .networks import Given, Network, built_in, network


def named(who: Any) -> str:
    """Class and registered name."""
    return f"{type(who).__name__} ({getattr(who, 'name', '') or 'not registered'})"


def law(holds: bool, which: str, who: Any, what: str) -> None:
    """Raise an AssertionError that names the law, who broke it, and how."""
    if not holds:
        raise AssertionError(f"{which}: {named(who)} {what}")


def frozen_dataclass(who: Any) -> None:
    """Options must not change under a run that was stored with them."""
    parameters = type(who).__dict__.get("__dataclass_params__")  # its own, not one it inherits
    law(parameters is not None and parameters.frozen, "contract", who, "is not a frozen dataclass")


def raises(kind: type[SecateurError], action: Callable[[], Any], who: Any, what: str) -> None:
    """Law 11: `action` raises `kind`."""
    found = "without an error"
    try:
        action()
    except kind:
        return
    except Exception as error:
        found = f"and raised {type(error).__name__}: {error}"
    raise AssertionError(f"law 11: {named(who)} {what} {found}; it must raise {kind.__name__}")


def on_some(who: Any, given: Given | None, check: Callable[[Network], None]) -> None:
    """Run a check on every network; a refusal by name passes, as long as one network is not refused."""
    made = {"the given network": given} if given else built_in()
    refused = []
    for name, (model, example) in made.items():
        try:
            check(network(name, model, example))
        except SecateurError as error:
            refused.append(f"{name}: {type(error).__name__}: {error}")
    law(len(refused) < len(made), "contract", who, f"works on none of the networks. {' | '.join(refused)}")


@contextmanager
def untouched(who: Any, model: nn.Module) -> Iterator[None]:
    """Law 10: weights, modes, gradients, the plain attributes of every module and the RNG are what they were."""
    before = _facts(model)
    yield
    after = _facts(model)
    for name in before.keys() | after.keys():
        a, b = before.get(name), after.get(name)
        same = torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b
        law(bool(same), "law 10", who, f"changes {name} of a model that is not its own")


def _facts(model: nn.Module) -> dict[str, Any]:
    facts: dict[str, Any] = {"the RNG": torch.get_rng_state()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        facts |= {name: tensor.detach().clone(), f"{name}.requires_grad": tensor.requires_grad}
        facts[f"{name}.grad"] = None if tensor.grad is None else tensor.grad.clone()
    for path, module in model.named_modules():
        facts |= {f"{path}.{k}": v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str))}
    return facts


def fits(who: Any, graph: Graph, plan: Plan, net: Network) -> None:
    """The plan names groups and units that exist, no frozen ones, and leaves each group a unit."""
    frozen = sorted({f.name for f in graph.frozen} & set(plan.kept))
    law(not frozen, "contract", who, f"touches frozen groups {frozen} of {net.name}")
    try:
        plan.check(graph)
    except SecateurError as error:
        raise AssertionError(f"contract: {named(who)} gives a plan that does not fit {net.name}: {error}") from error
    empty = [name for name, width in plan.widths(graph).items() if width < 1]
    law(not empty, "contract", who, f"leaves no unit of groups {empty} of {net.name}")


def meets(who: Any, graph: Graph, plan: Plan, budget: Budget, net: Network) -> None:
    """Law 6: what the plan leaves costs no more than the budget."""
    cost = CostModel(graph)
    reached = cost.at(plan.widths(graph))
    for field, limit in budget.limits(cost.dense()).items():
        found = getattr(reached, field)
        law(found <= limit, "law 6", who, f"misses {budget} on {net.name}: {field} {found} > {limit:.6g}")
