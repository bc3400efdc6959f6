"""Gradients of gates, by batch.

The gate of a unit multiplies what each layer writes for it, after that layer's batch norm where one follows; all layers
that write a group share one gate. Its gradient needs no gate in the model: for a scale and shift it is
gamma * dL/dgamma + beta * dL/dbeta, for a layer without a norm sum(w * dL/dw) + b * dL/db over the unit's weights;
where a weight is also read along that axis, dL/dw is that of writing alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadModel
from ..groups.graph import Graph
from ..groups.group import Group, Source
from .base import Collector, Fields, Sampling, collector
from .units import slices
from .uses import Uses, key

CANCELS = 1e-4  # what is left of a sum in single precision whose terms cancel


@collector("gradients")
class Gradients(Collector):
    """Of each group, sums over batches of g = dL/dgate: `total` g, `square` g^2, `absolute` |g|, (units,); `count`."""

    differentiates = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._groups, self.missing = gated(graph)
        self._uses = uses(graph, self._groups)
        self._sums = {g.name: torch.zeros(3, g.size, dtype=torch.float64) for g in self._groups}
        self._count = 0

    def parameters(self) -> Collection[str]:
        """Of norms, and of layers without one."""
        return {n for g in self._groups for s in g.sources for n, _ in gate_parameters(s)}

    def watching(self) -> AbstractContextManager[Any]:
        """Weights that are read along the axis that they write."""
        return self._uses

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """One more."""
        gradients = {**gradients, **self._uses.take()[0]}
        if not self._count:
            self.missing |= lost(self._uses, self._groups)
            self.missing |= idle(self.graph.model, self._groups, gradients)
        self._count += 1
        for group in self._groups:
            g = gate_gradient(self.graph.model, group, gradients)
            self._sums[group.name] += torch.stack([g, g**2, g.abs()])

    def values(self) -> dict[str, Fields]:
        """By group."""
        count = torch.tensor(self._count)
        sums = {n: s for n, s in self._sums.items() if n not in self.missing}
        return {n: {"total": s[0], "square": s[1], "absolute": s[2], "count": count} for n, s in sums.items()}


def gated(graph: Graph) -> tuple[list[Group], dict[str, str]]:
    """The groups whose gates have a gradient of their own, and why the others have none."""
    found, missing = [], {}
    for group in graph.groups:
        try:
            held = [gate_parameters(s) for s in group.sources]
        except BadModel as error:
            missing[group.name] = str(error)
            continue
        if held:
            found.append(group)
        else:
            missing[group.name] = "no layer writes it"
    return found, missing


def gate_parameters(source: Source) -> list[tuple[str, int]]:
    """The parameters whose gradients give the gate's, and the axis written: of the norm behind, else of the layer."""
    writer, norm = source.writer, source.writer.norm
    if norm is not None and norm.weight is not None:
        return [(n, 0) for n in (norm.weight, norm.bias) if n is not None]
    if writer.weight is None or writer.computed:  # as of a weight norm: scaling what it is computed from may do nothing
        raise BadModel(f"the weight of {writer.path!r} is computed and no batch norm with a scale follows")
    return [(n, a) for n, a in ((writer.weight, writer.weight_axis), (writer.bias, 0)) if n is not None]


def uses(graph: Graph, groups: Iterable[Group]) -> Uses:
    """The weights that stand for gates and are read along the very axis."""
    read = {(g.name, (m.tensor, m.axis)) for g in groups for m in g.members if m.reads}
    return Uses(graph, {u for g in groups for s in g.sources for u in gate_parameters(s) if (g.name, u) in read})


def lost(found: Uses, groups: Iterable[Group]) -> dict[str, str]:
    """Group -> the weight that is read along the axis that it writes, in ways that cannot be told apart."""
    each = ((g.name, use) for g in groups for s in g.sources for use in gate_parameters(s) if use in found.lost)
    return {name: f"{use[0]} both writes and reads it, in calls that cannot be told apart" for name, use in each}


def gate_index(group: Group, name: str, axis: int) -> Tensor:
    """Which indices of a parameter the gates of a group multiply, unit by unit: (units * m,)."""
    return torch.from_numpy(next(m.index for m in group.members if (m.tensor, m.axis) == (name, axis)).reshape(-1))


def idle(model: nn.Module, groups: Iterable[Group], gradients: Mapping[str, Tensor | None]) -> dict[str, str]:
    """Group -> why its gates do nothing: in front of an instance norm, all that a unit's weights do cancels."""
    why = "a norm behind it takes the scale of each unit away, so that a gate in front of it does nothing"
    found = {}
    for group in groups:
        total, parts = (gate_gradient(model, group, gradients, parts=p).abs().sum() for p in (False, True))
        if parts > 0 and total < CANCELS * parts:
            found[group.name] = why
    return found


def gate_gradient(
    model: nn.Module, group: Group, gradients: Mapping[str, Tensor | None], *, parts: bool = False
) -> Tensor:
    """dL/dgate of each unit, summed over the layers that share the gate: (units,) float64; `parts`: of sizes alone.

    With Hessian-vector products in place of gradients: the gate's Hessian times what the gates were multiplied with.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    seen: set[str] = set()
    for source in group.sources:
        for name, axis in gate_parameters(source):
            index = gate_index(group, name, axis)
            use = key((name, axis))
            gradient = gradients[use if use in gradients else name]
            if gradient is None or name in seen:
                continue  # the gradient of a parameter that is used twice is the sum over its uses already
            seen.add(name)
            product = slices(model.get_parameter(name).detach(), gradient.detach(), axis, absolute=parts)
            total += product[index].reshape(group.size, -1).sum(1)
    return total
