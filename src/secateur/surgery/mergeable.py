"""What may be merged: units that all which reads them takes by weights, and all that stands between treats alike.

A group is refused by name where something else than a weight sums over its units, for what is left of such a sum is
another number when a unit goes. Two units are refused where a tensor between their writers and their readers (a
depthwise kernel, a scale) differs, or where the model, given the same weights for both, gives their readers other
values: that is tried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SurgeryError
from ..evidence.readers import readers
from ..graph.example import call
from ..graph.labels import Axis
from ..graph.record import BLOCK, Contraction
from ..graph.replay import AtContractions
from ..graph.trace import undisturbed
from ..groups.folded import between as between_layers
from ..groups.graph import Graph
from ..groups.group import Group
from ..groups.plan import Plan
from .merge import with_tensors
from .precise import InFloat64
from .verify import other_example

TOLERANCE = 1e-9
SHOWN = 3  # groups that an error names


@dataclass(frozen=True)
class Mergeable:
    """Group by group: which units can be merged into which, or why none can."""

    kin: dict[str, NDArray[np.int64]]  # (units,) the first unit that each can be merged with, perhaps itself
    between: dict[str, tuple[str, ...]]  # tensors that stand between those that write the group and those that read it
    refused: dict[str, str]  # group name -> reason

    def reasons(self) -> str:
        """Why groups were refused, the first few by name."""
        told = [f"units of group {name!r} cannot be merged: {why}" for name, why in self.refused.items()]
        more = f"; nor can those of {len(told) - SHOWN} more groups" if len(told) > SHOWN else ""
        return "; ".join(told[:SHOWN]) + more


def check_merges(graph: Graph, plan: Plan) -> None:
    """Raise `SurgeryError` where a group of the plan, or a pair of its units, cannot be merged; says why."""
    if not plan.merges:
        return
    may = mergeable(graph, [graph[name] for name in plan.merges])
    for name, merge in plan.merges.items():
        if name in may.refused:
            raise SurgeryError(f"units of group {name!r} cannot be merged: {may.refused[name]}")
        kin, between = may.kin[name], may.between[name]
        for unit, into, factor in zip(merge.units, merge.into, merge.factors, strict=True):
            if kin[unit] != kin[into]:
                raise SurgeryError(
                    f"unit {unit} of group {name!r} cannot be merged into unit {into}: "
                    + _difference(graph, graph[name], unit, into)
                )
            if factor != 1 and between:
                raise SurgeryError(
                    f"unit {unit} of group {name!r} cannot be merged into unit {into} by the factor {factor:g}: what "
                    f"{between[0]} does between writing and reading need not scale; give the factor 1"
                )


def mergeable(graph: Graph, groups: Sequence[Group]) -> Mergeable:
    """What can be merged in these groups. A copy of the model runs once, in float64.

    Raises `SurgeryError` for a model on the meta device, which has no weights to compare.
    """
    if any(p.is_meta for p in graph.model.parameters()):
        raise SurgeryError("the model is on the meta device and has no weights that could be merged")
    refused = {g.name: why for g in groups if (why := _refusal(graph, g)) is not None}
    free = [g for g in groups if g.name not in refused]
    kin = _treated_alike(graph, free)
    between: dict[str, tuple[str, ...]] = {}
    for group in free:
        held = between_layers(group, graph.model)
        between[group.name] = tuple(held)
        for rows in held.values():
            kin[group.name] = _finer(kin[group.name], torch.unique(rows, dim=0, return_inverse=True)[1].cpu().numpy())
    return Mergeable(kin, between, refused)


def _refusal(graph: Graph, group: Group) -> str | None:
    trace = graph.trace
    mine = np.zeros(int(trace.classes.max()) + 1, dtype=bool)
    mine[group.classes] = True

    def has(axis: Axis) -> bool:
        return bool((mine[trace.classes[axis]] & (axis > 0)).any())

    reading = {m.tensor for m in group.members if m.reads}
    if not reading:
        return "no weight reads them"
    if np.bitwise_or.reduce(trace.roles[mine[trace.classes]]) & BLOCK:
        return "each is a whole group of a grouped layer"
    for member in group.members:
        if member.reads and member.role != "in":
            return f"{member.tensor} is read and written along the same axis"
    for source in group.sources:
        if source.writer.weight is None or source.writer.computed:
            return f"{source.writer.path!r} writes them with a weight computed from others"
        if source.writer.viewed or source.rows.shape != source.index.shape:
            return f"{source.writer.path!r} writes them, and {source.writer.weight} holds no row for each output"
    for c in trace.contractions:
        if c.weight not in reading and has(c.labels):
            return f"{c.op} at {c.path!r} sums over them with something that is no weight of its own"
    for r in trace.reductions:
        if any(has(axis) for axis in r.over):
            return f"{r.op} at {r.path!r} normalises, sums or ranks over them"
    for w in trace.wholes:
        if any(has(labels) for _, _, labels in w.reads):
            return f"{w.name} at {w.path!r} reads them out of sight"
    return None


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _difference(graph: Graph, group: Group, unit: int, into: int) -> str:
    for name, rows in between_layers(group, graph.model).items():
        if not torch.equal(rows[unit], rows[into]):
            return f"they differ in {name}, which stands between the layers that write and those that read them"
    return "given the same weights, the model would still give their readers other values"


def _finer(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Units agree where they do in both; each has the number of the first that it agrees with."""
    _, first, place = np.unique(a * (int(b.max()) + 1) + b, return_index=True, return_inverse=True)
    return first[place.reshape(-1)].astype(np.int64)


@torch.no_grad()
def _treated_alike(graph: Graph, groups: Sequence[Group]) -> dict[str, NDArray[np.int64]]:
    """Give all units of each group the weights of its first unit, and see which of them then look alike to readers."""
    kin = {g.name: np.zeros(g.size, dtype=np.int64) for g in groups}
    twins = with_tensors(graph.model, _twins(graph, groups))
    at = readers(graph)

    def before(contraction: Contraction, x: Tensor) -> Tensor:
        for name, index in at[contraction.number].groups.items() if contraction.number in at else ():
            if name in kin:
                seen = x.movedim(contraction.axis, 0)[index.to(x.device)].flatten(1)  # (units, numbers)
                kin[name] = _finer(kin[name], _equal(seen))
        return x

    if groups:
        with InFloat64(twins), undisturbed(twins), AtContractions(graph.trace, before):
            call(twins, other_example(graph.example))
    return kin


def _twins(graph: Graph, groups: Sequence[Group]) -> dict[str, Tensor]:
    held = _tensors(graph.model)
    changed: dict[str, Any] = {}
    for group in groups:
        for m in group.members:
            if not m.reads:
                tensor = changed.get(m.tensor, held[m.tensor].detach())
                index = torch.from_numpy(m.index).to(tensor.device)
                first = tensor.index_select(m.axis, index[0].repeat(group.size))
                changed[m.tensor] = tensor.index_copy(m.axis, index.reshape(-1), first)
    return changed


def _equal(seen: Tensor) -> NDArray[np.int64]:
    """(units,) the same number for rows that agree."""
    numbers = np.full(len(seen), -1, dtype=np.int64)
    bound = TOLERANCE * float(seen.abs().max()) if seen.numel() else 0.0
    while (left := np.flatnonzero(numbers < 0)).size:
        near = ((seen - seen[left[0]]).abs().amax(1) <= bound).cpu().numpy()
        near[left[0]] = True
        numbers[near & (numbers < 0)] = left[0]
    return numbers
