"""Gradients of gates at the layers that read a group: sums over positions of x * dL/dx, by batch and by example.

A unit is gone when nothing reads it, so a gate on each reading is the first-order change of the loss by its removal,
behind whatever norms and activations stand there, however the layers that write the unit are joined: added, multiplied
or one after another. All readings of a group share one gate. What a norm over the units would make of fewer of them is
no part of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..graph.record import Writer
from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector
from .readers import Read, unread


class AtReaders(Collector):
    """Sums up g = dL/dgate of the units of each group, by example: (examples, units) float64."""

    reads = differentiates = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._now: dict[str, Tensor] = {}
        self._met: dict[str, int] = {}  # groups that were read in this batch, and their sizes
        self.missing = unread(graph)

    def in_turn(self) -> Collection[str]:
        """Any, so that gradients flow to whatever a layer reads: of all that makes units, but the heavy ones."""
        own = {n for n, p in self.graph.model.named_parameters() if p.is_floating_point()}
        writers = [s.writer for g in self.graph.groups for s in g.sources]
        if any(not _lighter(w) and w.computed for w in writers):  # from any parameters
            return own
        heavy = {w.weight for w in writers if _lighter(w)}
        weights = {c.weight for c in self.graph.trace.contractions}
        made = {m.tensor for g in self.graph.groups for m in g.members} - weights
        return (made | {w.weight for w in writers if w.weight}) & own - heavy

    def read(self, read: Read) -> None:
        """Wait for the gradient, which may never come: what the loss does not see of a group is 0."""
        self._met |= {name: len(index) for name, index in read.reader.groups.items()}
        if not read.differentiable:
            where = f"nothing that {read.reader.contraction.path!r} reads has a gradient"
            self.missing |= dict.fromkeys(read.reader.groups, where)

        reader = read.reader  # not the reading, which waits for this and holds what is read

        def later(products: Tensor) -> None:
            for name in reader.groups:
                found = reader.per_unit(name, products)
                before = self._now.get(name)
                if before is None or len(before) == len(found):
                    self._now[name] = found if before is None else before + found
                else:  # one of the layers does not tell examples apart
                    self._now[name] = before.sum(0, keepdim=True) + found.sum(0, keepdim=True)

        read.products(later)

    def found(self) -> dict[str, Tensor]:
        """What the backward pass brought, by group; the next batch starts anew."""
        none = {name: torch.zeros(1, size, dtype=torch.float64) for name, size in self._met.items()}
        found, self._now, self._met = none | self._now, {}, {}
        return found


@collector("gradients")
class Gradients(AtReaders):
    """Of each group, with g = dL/dgate of a batch, (units,): `total`, the sum over batches of g times their examples;
    `square`, the sum over batches of g^2; `count` of batches, `examples`, and `uses`, how many tensors layers read.
    """

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums: dict[str, Tensor] = {}
        self._tensors: dict[str, set[tuple[int, int]]] = {}
        self._count = self._examples = 0

    def read(self, read: Read) -> None:
        """Count what is read."""
        super().read(read)
        if not self._count:
            for name in read.reader.groups:
                self._tensors.setdefault(name, set()).add(read.tensor)

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """Add up what the backward pass brought."""
        self._count += 1
        self._examples += self.examples
        for name, each in self.found().items():
            g = each.sum(0)
            sums = torch.stack([g * self.examples, g**2])
            self._sums[name] = sums if name not in self._sums else self._sums[name] + sums

    def values(self) -> dict[str, Fields]:
        """By group."""
        counts = {"count": torch.tensor(self._count), "examples": torch.tensor(self._examples)}
        return {
            name: {"total": s[0], "square": s[1], "uses": torch.tensor(len(self._tensors[name])), **counts}
            for name, s in self._sums.items()
            if name not in self.missing
        }


def _lighter(writer: Writer) -> bool:
    """Whether a layer has a parameter whose gradient costs less than its weight's and flows through all it gives."""
    return writer.bias is not None or (writer.norm is not None and writer.norm.bias is not None)
