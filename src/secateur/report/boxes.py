"""A model as nested boxes: its modules in order of execution, and which groups each reads and writes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import nn

from ..graph.labels import Axis
from ..graph.record import IN, OUT
from ..groups.graph import Graph
from .layers import Block, Layer, Part
from .order import first_calls
from .owners import owners

SHOWN = 60  # boxes that are open at first
FEW = 24  # layers of a block that opens with the closed block around it


def boxes(graph: Graph) -> Block:
    """The whole model. As many levels of blocks are open as show `SHOWN` boxes at most."""
    root = Reader(graph).block("", graph.model)
    for row, layer in enumerate(root.layers()):
        layer.row = row
    _open(root)
    return root


def _open(root: Block) -> None:
    root.open, level, shown = True, root.blocks(), len(root.children)
    while level:
        shown += sum(len(block.children) for block in level)
        for block in level:
            block.open = shown <= SHOWN
        if shown > SHOWN:  # what is inside a closed block should not need many more clicks
            for inner in (inner for block in level for inner in block.all_blocks()):
                inner.open = sum(1 for _ in inner.layers()) <= FEW
            return
        level = [inner for block in level for inner in block.blocks()]


class Reader:
    """Looks up which tensors, contractions and costs belong to which module."""

    def __init__(self, graph: Graph) -> None:
        self.trace = graph.trace
        self.numbers, self.reasons = owners(graph)
        self.calls = first_calls(graph)
        self.tensors: dict[str, dict[str, tuple[Axis, ...]]] = {}
        parameters = {name.rpartition(".")[0] for name, _ in graph.model.named_parameters()}
        for name, axes in self.trace.tensors.items():
            path, _, leaf = name.rpartition(".")
            if path in parameters or any((self.numbers[self.trace.classes[a]] > 0).any() for a in axes):
                self.tensors.setdefault(path, {})[leaf] = axes
        self.macs: dict[str, int] = {}
        for term in self.trace.terms:
            done = term.coefficient * math.prod(axis.size for axis in term.axes)
            self.macs[term.path] = self.macs.get(term.path, 0) + done
        self.readers: dict[str, set[str]] = {}  # parameter -> modules that multiply by it
        for read in self.trace.contractions:
            self.readers.setdefault(read.weight or "", set()).add(read.path)
        self.writers: dict[tuple[str, int], set[str]] = {}
        for writer in self.trace.writers:
            self.writers.setdefault((writer.weight or "", writer.weight_axis), set()).add(writer.path)
        busy = set(self.tensors).union(*self.readers.values(), *self.writers.values())
        self.busy = busy
        self.parents = {path.rsplit(".", n)[0] for path in busy for n in range(1, path.count(".") + 1)}

    def block(self, path: str, module: nn.Module) -> Block:
        """A module with all that it holds."""
        made = Block(path, type(module).__name__, macs=self.macs.get(path, 0))
        found: list[tuple[float, Layer | Block]] = []
        time: float = self.calls.get(path, -1)
        for name, child in module.named_children():
            inner = f"{path}.{name}".lstrip(".")
            box = self.box(inner, child)
            if box is not None:  # one that is never called itself, as those of fused attention, follows its neighbour
                time = min((self.calls[p] for p in _paths(inner, child) if p in self.calls), default=time)
                found.append((time, box))
                made.macs += box.macs
        made.children = [box for _, box in sorted(found, key=lambda item: item[0])]
        if path in self.tensors or (path in self.busy and not found):
            own = self.layer(path, module)
            own.own = bool(found)
            made.children.insert(0, own)
        return made

    def box(self, path: str, module: nn.Module) -> Layer | Block | None:
        """A layer, a block of several boxes, or None where a module holds nothing; a block of one is that one."""
        if path not in self.parents:
            return self.layer(path, module) if path in self.busy else None
        made = self.block(path, module)
        return made if len(made.children) > 1 else next(iter(made.children), None)

    def layer(self, path: str, module: nn.Module) -> Layer:
        """The box of a module's own tensors."""
        held = self.tensors.get(path, {})
        leaf = path not in self.parents
        reads, writes, along = self._axes(path, held)
        if leaf:  # what it works on may belong to another, or run through it unread, as in depthwise layers
            reads = reads or [c.labels for c in self.trace.contractions if c.path == path]
            writes = writes or [w.axis for w in self.trace.writers if w.path == path]
        shapes = {name: tuple(a.size for a in axes) for name, axes in held.items()}
        beside = () if reads or writes else self._named(self._parts(along))
        macs = self.macs.get(path, 0) if leaf else 0
        return Layer(path, type(module).__name__, shapes, macs, self._parts(reads), self._parts(writes), beside)

    def _axes(self, path: str, held: dict[str, tuple[Axis, ...]]) -> tuple[list[Axis], list[Axis], list[Axis]]:
        reads, writes, along = [], [], []
        for name, axes in held.items():
            full = f"{path}.{name}".lstrip(".")
            for place, axis in enumerate(axes):
                bits = int(np.bitwise_or.reduce(self.trace.roles[axis[axis > 0]], initial=0))
                reads += [axis] * (bool(bits & IN) and _here(path, self.readers.get(full)))
                writes += [axis] * (bool(bits & OUT) and _here(path, self.writers.get((full, place))))
                along += [axis] * bool(axis.any())
        return reads, writes, along

    def _named(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """Those of groups, or, where there are none, the longest."""
        named = tuple(part for part in parts if part.group)
        return named or tuple(sorted(parts, key=lambda part: -part.indices)[:1])

    def _parts(self, axes: list[Axis]) -> tuple[Part, ...]:
        """What these axes consist of, each part once, in the order in which they begin."""
        found: dict[tuple[int, bool, str], int] = {}
        for axis in axes:
            keys = np.where(axis > 0, self.numbers[self.trace.classes[axis]], 0)
            values, first, counts = np.unique(keys, return_index=True, return_counts=True)
            for i in np.argsort(first).tolist():
                number = int(values[i])
                key = (max(number, 0), *self.reasons.get(-number, (False, "")))
                found[key] = max(found.get(key, 0), int(counts[i]))
        return tuple(Part(group, indices, stuck, why) for (group, stuck, why), indices in found.items())


def _here(path: str, users: set[str] | None) -> bool:
    """Whether a tensor is used by the module that holds it, or by one around that; a tied one may be used elsewhere."""
    return not users or any(user in ("", path) or path.startswith(f"{user}.") for user in users)


def _paths(path: str, module: nn.Module) -> Iterator[str]:
    return (f"{path}.{name}".rstrip(".") for name, _ in module.named_modules())
