"""Layer by layer, as ThiNet and He et al. prune: each group is chosen on the network as it is by then, cut, refitted.

`prune(..., repair="reconstruct")` chooses all groups from the dense network, cuts once and refits then. Here what is
read of a group has passed through all that was cut and refitted before it, and criteria that look at what its readers
give aim at what they gave in the dense network: errors made on the way are seen, and targets never drift.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..allocation.base import ALLOCATORS, Allocator
from ..allocation.uniform import Uniform
from ..cost.budget import Budget
from ..criteria.base import CRITERIA, Criterion
from ..errors import NeedsData, UnknownName
from ..evidence.base import Batches, Evidence, Loss
from ..evidence.collect import collect
from ..evidence.contributions import between, layers_of, rescale
from ..evidence.inputs_gram import Towards
from ..graph.example import Example
from ..groups.graph import Graph, trace
from ..groups.group import WIDTHS
from ..groups.plan import Plan
from ..prune import Pruned, allocate, choose, cut, mend, score
from ..surgery.reconstruct import reconstruct
from .base import Method
from .order import in_order

Refit = Literal["full", "scale"]


def layerwise(
    model: nn.Module,
    example: Example,
    batches: Batches,
    *,
    criterion: str | Criterion = "lasso",
    budget: Budget | None = None,
    allocator: str | Allocator = "uniform",
    frozen: Iterable[str | nn.Parameter] = (),
    kinds: Iterable[str] = WIDTHS,
    refit: Refit = "full",
    loss: Loss | None = None,
    seed: int = 0,
) -> Pruned:
    """Trace, plan group by group (`plan_in_order`), cut the dense network by that plan, verify, refit what was cut.

    "full" ends with the refit of `repair="reconstruct"`, so that a method's sequential plan with this repair gives the
    same network; "scale" leaves each kept channel the factors that it got on the way, as ThiNet has it. Refitted
    weights come after the check. The caller's model is untouched.
    Raises `NeedsData` without batches, `UnknownName`, and what `trace`, `score`, `allocate` and `cut` raise.
    """
    if refit not in get_args(Refit):
        raise UnknownName("refit", refit, get_args(Refit))
    held = list(batches)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        graph = trace(model, example, frozen=frozen, kinds=kinds)
        chosen, spread = CRITERIA.make(criterion), ALLOCATORS.make(allocator)
        plan, current = plan_in_order(graph, budget, chosen, spread, refit, batches=held, loss=loss, seed=seed)
        pruned = cut(graph, plan)
        if refit == "full":
            mend(graph, pruned, [x for x, _ in held], "reconstruct")
        else:
            pruned.model.load_state_dict(current.state_dict())
    return pruned


def plan_in_order(
    graph: Graph,
    budget: Budget | None,
    criterion: Criterion,
    allocator: Allocator,
    refit: Refit = "full",
    *,
    batches: Batches | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> tuple[Plan, nn.Module]:
    """One group after another, in the order they are read: choose its units, cut, refit its readers, go on to the next.

    Gives the plan, and the network that it led to. Widths are those that the allocator gives for the dense network's
    scores. Each group's units are then chosen by the criterion from what the network reads by then, and towards what
    the dense network's layers gave at the same points. A group that several layers read is chosen when the first of
    them is met, and all of them are refitted: "full", all weights on what is left (`reconstruct`), or "scale", one
    factor for each unit that is left, without an intercept.

    Raises `NeedsData` without batches, and what `score`, `allocate` and `cut` raise.
    """
    held = list(batches or ())
    if not held:
        raise NeedsData("layer by layer, each choice and each refit reads batches, and none were given")
    needs = criterion.needs | ({"inputs_gram"} if refit == "scale" else set())
    evidence = collect(graph, needs, batches=held, loss=loss, seed=seed, sampling=Towards(seed=seed))
    widths = allocate(graph, score(graph, criterion, evidence=evidence), budget, allocator=allocator).widths(graph)
    given = {name: fields["given"] for name, fields in evidence.values.get("inputs_gram", {}).items()}
    plan, current = Plan(), graph.model
    dense = _Dense(graph, given, held, loss, seed)
    for group in in_order(graph):
        if widths[group.name] < group.size:
            now, one, evidence = dense.compared(group.name, criterion.needs, plan, current)
            best = torch.argsort(score(one, criterion, evidence=evidence)[group.name], descending=True, stable=True)
            top = Plan.keeping(one, {group.name: sorted(best[: widths[group.name]].tolist())})
            step = choose(one, top, criterion, evidence)
            plan, current = plan.then(step), cut(now, step, verify="off").model
            if refit == "scale":
                _scale(current, *dense.compared(group.name, {"inputs_gram"}, plan, current)[1:])
            else:
                layers = {m.tensor for m in group.members if m.reads}
                reconstruct(graph, plan, current, [x for x, _ in held], seed=seed, only=layers)
    return plan, current


@dataclass(frozen=True, eq=False)
class _Dense:
    """The network that was, what its layers gave, and the data."""

    graph: Graph
    given: Mapping[str, Tensor]
    batches: Batches
    loss: Loss | None
    seed: int

    def compared(
        self, name: str, needs: Collection[str], plan: Plan, current: nn.Module
    ) -> tuple[Graph, Graph, Evidence]:
        """The network as it is by now, with all groups and with one alone, and evidence of the latter."""
        now = trace(current, self.graph.example, kinds=_kinds(self.graph))
        one = replace(now, groups=(now[name],))
        sampling = Towards(seed=self.seed, targets=_targets(self.graph, plan, current, self.given))
        return now, one, collect(one, needs, batches=self.batches, loss=self.loss, seed=self.seed, sampling=sampling)


@torch.no_grad()
def _scale(model: nn.Module, one: Graph, evidence: Evidence) -> None:
    """ThiNet, sec. 3.2: where a layer reads the only group of a graph, each unit times the factor that fits best."""
    (group,) = one.groups
    members = {m.tensor: m for m in group.members if m.reads}
    for layer in layers_of(group, evidence, intercept=False):
        factors = rescale(between(layer), torch.arange(group.size), lacks=layer.missed())
        member, weight = members[layer.name], model.get_parameter(layer.name)
        shape = [1] * weight.dim()
        shape[member.axis] = -1
        each = torch.ones(weight.shape[member.axis], dtype=torch.float64)
        each[torch.from_numpy(member.index)] = factors[:, None]
        weight.copy_((weight.double() * each.reshape(shape).to(weight.device)).to(weight.dtype))


def _kinds(graph: Graph) -> set[str]:
    """Those that find the same groups in a model that was cut."""
    return {g.kind for g in graph.groups} | ({"expert"} if graph.trace.experts else set())


def _targets(graph: Graph, plan: Plan, current: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the dense layers gave at outputs that are left, less what refits have put into biases and norms since."""
    alive = torch.from_numpy(graph.alive(plan.kept))
    found = {}
    for writer in graph.trace.writers:
        weight = str(writer.weight)
        if weight in given and writer.kind != "embedding":
            kept = alive[torch.from_numpy(writer.axis)]
            aim = given[weight][:, kept]
            if writer.bias is not None:
                aim = aim - _moved(graph.model.get_parameter(writer.bias), current.get_parameter(writer.bias), kept)
            elif writer.norm is not None and writer.norm.mean is not None:
                mean = writer.norm.mean
                aim = aim + _moved(graph.model.get_buffer(mean), current.get_buffer(mean), kept)
            found[weight] = aim
    return found


def _moved(before: Tensor, now: Tensor, kept: Tensor) -> Tensor:
    return (now.detach().double() - before.detach().double()[kept.to(before.device)]).cpu()


@dataclass(frozen=True)
class InOrder(Method):
    """A method that chooses one group after another (see `plan_in_order`), or, not `sequential`, all at once."""

    per_macs: float = 0.0
    sequential: bool = True

    @property
    def allocator(self) -> Allocator:
        """The same fraction everywhere."""
        return Uniform(per_macs=self.per_macs)

    @property
    def between(self) -> Refit:
        """What readers get after each cut, before the next group is chosen."""
        return "full"

    def plan(
        self,
        graph: Graph,
        budget: Budget | None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """Raises what `plan_in_order` raises."""
        if not self.sequential:
            return super().plan(graph, budget, batches=batches, loss=loss, seed=seed)
        parts = self.criterion, self.allocator, self.between
        return plan_in_order(graph, budget, *parts, batches=batches, loss=loss, seed=seed)[0]
