"""Readers: the layers that read a group, met one by one while the model runs, with gradients if they are wanted.

A unit is gone when nothing reads it, so what layers read of it is where its worth is measured. Calls are watched as the
author wrote them, above autograd; a replay of the trace below counts which multiply-and-sum op each of them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from ..graph.record import Contraction
from ..graph.replay import AtContractions
from ..graph.trace import TRANSPARENT
from ..groups.graph import Graph

_PRODUCTS = {"addmm": 1, "baddbmm": 1, "mm": 0, "bmm": 0, "matmul": 0, "__matmul__": 0}  # place of the first factor
_LAYERS = {"linear", *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3))}


@dataclass(frozen=True, eq=False)
class Reader:
    """One multiply-and-sum op, and where along what it reads the units of each group lie: (units, m) positions."""

    contraction: Contraction
    groups: dict[str, Tensor]

    def per_unit(self, group: str, values: Tensor) -> Tensor:
        """(..., positions) -> (..., units), summed over the positions that a unit holds."""
        index = self.groups[group].to(values.device)
        return values[..., index.reshape(-1)].unflatten(-1, tuple(index.shape)).sum(-1)


@dataclass(frozen=True, eq=False)
class Read:
    """What one layer reads in one batch."""

    reader: Reader
    x: Tensor  # as the layer got it, detached
    axis: int  # of x: the one whose indices are units
    batch: int  # number of the batch
    examples: int  # in the batch
    gradient: Callable[[Callable[[Tensor], None]], None]  # call back with dL/dx, of this reading alone

    def by_example(self, x: Tensor) -> Tensor:
        """(examples, rest, positions along the axis). Examples lie along the first axis of what layers read."""
        flat = x.movedim(self.axis, -1)
        if flat.dim() == 1:
            flat = flat[None]
        rows = flat.numel() // max(flat.shape[-1], 1)
        count = self.examples if rows % max(self.examples, 1) == 0 else 1
        return flat.reshape(count, -1, flat.shape[-1])


def readers(graph: Graph) -> dict[int, Reader]:
    """Number of a contraction -> reader, for those that read units of any group."""
    owner = np.full(int(graph.trace.classes.max()) + 1, -1, dtype=np.int64)
    unit = np.zeros_like(owner)
    for number, group in enumerate(graph.groups):
        owner[group.classes], unit[group.classes] = number, np.arange(group.size)
    found: dict[int, Reader] = {}
    for contraction in graph.trace.contractions:
        axis = contraction.labels
        classes = graph.trace.classes[axis]
        numbers = np.where(axis > 0, owner[classes], -1)
        held: dict[str, Tensor] = {}
        for number in np.unique(numbers[numbers >= 0]).tolist():
            group, at = graph.groups[number], np.flatnonzero(numbers == number)
            if at.size % group.size == 0:
                order = np.argsort(unit[classes[at]], kind="stable")
                held[group.name] = torch.from_numpy(at[order].reshape(group.size, -1))
        if held:
            found[contraction.number] = Reader(contraction, held)
    return found


@contextmanager
def at_readers(graph: Graph, held: dict[int, Reader], seen: Callable[[Reader, Tensor, int], None]) -> Iterator[None]:
    """Meanwhile, `seen(reader, x, axis)` for each reading, with what the layer reads."""
    ops = AtContractions(graph.trace, lambda _, x: x)
    with ops, _Calls(ops, held, seen):
        yield


class _Calls(TorchFunctionMode):
    def __init__(
        self, ops: AtContractions, held: dict[int, Reader], seen: Callable[[Reader, Tensor, int], None]
    ) -> None:
        super().__init__()
        self._ops, self._readers, self._seen = ops, held, seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in TRANSPARENT:
            with self:
                return TRANSPARENT[func](*args, **kwargs)
        met = self._ops.met
        reader = self._readers.get(met)
        found = None if reader is None else _operand(getattr(func, "__name__", ""), reader.contraction, args)
        if reader is None or found is None:
            return func(*args, **kwargs)
        place, axis = found
        # An alias of its own for each reading: its gradient is that of this reading, not of all uses of the tensor.
        mine = args[place].view_as(args[place])
        result = func(*args[:place], mine, *args[place + 1 :], **kwargs)
        if self._ops.met == met + 1:
            with _disable_current_modes(), torch._C.DisableTorchFunction():  # what they compute is no part of the model
                self._seen(reader, mine, axis)
        return result


def _operand(name: str, contraction: Contraction, args: tuple[Any, ...]) -> tuple[int, int] | None:
    """Which argument of a call is read, and along which axis."""
    if name in _LAYERS and len(args) > 1 and isinstance(args[1], Tensor):
        place, axis = 0, -1 if name == "linear" else 1 - args[1].dim()
    elif name in _PRODUCTS:
        second = contraction.argument - ("add" in contraction.op)
        place, axis = _PRODUCTS[name] + second, -1 - second
    else:
        return None
    x = args[place] if place < len(args) else None
    if not isinstance(x, Tensor) or x.dim() < -axis or x.shape[axis] != contraction.labels.size:
        return None
    return place, axis % x.dim()
