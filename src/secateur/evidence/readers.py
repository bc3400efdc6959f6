"""Readers: the layers that read a group, met one by one while the model runs, with gradients if they are wanted.

A unit is gone when nothing reads it, so what layers read of it is where its worth is measured. Calls are watched as the
author wrote them, above autograd; a replay of the trace below counts which multiply-and-sum op each of them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from ..errors import BadModel
from ..graph.record import Contraction
from ..graph.replay import AtContractions
from ..graph.trace import TRANSPARENT
from ..groups.graph import Graph

_PRODUCTS = {"addmm": 1, "baddbmm": 1, "mm": 0, "bmm": 0, "matmul": 0, "__matmul__": 0}  # place of the first factor
_LAYERS = {"linear", *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3))}

CHUNK = 2**19  # products that are held at a time
ALIKE = 1e-3  # of the largest value: what rounding may change between batches


@dataclass(frozen=True, eq=False)
class Reader:
    """One multiply-and-sum op, and where along what it reads the units of each group lie: (units, m) positions."""

    contraction: Contraction
    groups: dict[str, Tensor]

    def per_unit(self, group: str, values: Tensor) -> Tensor:
        """(..., positions) -> (..., units), summed over the positions that a unit holds."""
        index = self.groups[group].to(values.device)
        return values[..., index.reshape(-1)].unflatten(-1, tuple(index.shape)).sum(-1)


@dataclass(frozen=True)
class Layout:
    """Where the examples of a batch lie in what a layer reads: along an axis, in runs or, `inner`, in turns."""

    axis: int
    inner: bool = False

    def split(self, x: Tensor, axis: int, examples: int) -> Tensor:
        """(examples, rest, positions along `axis`)."""
        here, at = x.movedim(axis, -1), self.axis - (self.axis > axis)
        sizes = (-1, examples) if self.inner else (examples, -1)
        return here.unflatten(at, sizes).movedim(at + self.inner, 0).reshape(examples, -1, here.shape[-1])


Known = list[tuple[Layout, Tensor]]


def layouts(x: Tensor, axis: int, examples: int) -> Known:
    """Of a batch of one example again and again: the layouts in which all are alike, and what they say the example is.

    (rest, positions along `axis`) each.
    """
    axes = [d for d in range(x.dim()) if d != axis and x.shape[d] and x.shape[d] % examples == 0]
    ways = [w for d in axes for w in (Layout(d), Layout(d, inner=True))[: 1 + (x.shape[d] > examples)]]
    found = [(w, w.split(x, axis, examples)) for w in ways]
    return [(w, parts[0].clone()) for w, parts in found if _alike(parts[1:], parts[:1])]


def layout(x: Tensor, axis: int, examples: int, known: Known) -> Layout | str:
    """That in which the first example is what it is in a batch of its kind; or why examples cannot be told apart."""
    if not known:
        return "no axis of it goes with examples"
    fit = (w for w, e in known if x.shape[w.axis] % examples == 0 and _alike(w.split(x, axis, examples)[0], e))
    return next(fit, "what it reads of an example depends on the others of the batch")


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    return a.shape[-2:] == b.shape[-2:] and bool(
        (a.double() - b.double()).abs().max() <= ALIKE * b.double().abs().max()
    )


@dataclass(eq=False)
class Read:
    """What one layer reads in one batch."""

    reader: Reader
    x: Tensor  # as the layer got it, detached
    axis: int  # of x: the one whose indices are units
    batch: int  # number of the batch
    examples: int  # in the batch
    gradient: Callable[[Callable[[Tensor], None]], None]  # call back with dL/dx, of this reading alone
    layout: Layout | str = "nobody looked"  # of the examples, or why they cannot be told apart
    differentiable: bool = False
    tensor: tuple[int, int] = (0, 0)  # the same for layers that read the same tensor in this batch
    _waiting: list[Callable[[Tensor], None]] = field(default_factory=list)

    @property
    def mixed(self) -> str | None:
        """Why examples cannot be told apart, if so."""
        return self.layout if self.examples > 1 and isinstance(self.layout, str) else None

    def tell(self, missing: dict[str, str], groups: Iterable[str]) -> bool:
        """Whether examples can be told apart; else each of these groups gets the reason."""
        if self.mixed is not None:
            where = f"examples cannot be told apart where {self.reader.contraction.path!r} reads it: {self.mixed}"
            missing |= dict.fromkeys(groups, where)
        return self.mixed is None

    @property
    def positions(self) -> int:
        """Of each example, or of all together where they cannot be told apart."""
        rows = self.x.numel() // max(self.x.shape[self.axis], 1)
        return rows if self.mixed is not None else rows // max(self.examples, 1)

    def by_example(self, x: Tensor) -> Tensor:
        """(examples, rest, positions along the axis); a single example where they cannot be told apart."""
        if isinstance(self.layout, Layout) and self.examples > 1:
            return self.layout.split(x, self.axis, self.examples)
        return x.movedim(self.axis, -1).reshape(1, -1, x.shape[self.axis])

    @cached_property
    def largest(self) -> Tensor:
        """(examples, positions along the axis): the largest x of each, or of all where they cannot be told apart."""
        return self.by_example(self.x).amax(1)

    def products(self, found: Callable[[Tensor], None]) -> None:
        """Call back with the sum over positions of x * dL/dx, worked out once: (examples, along the axis) float64.

        Raises `BadModel`, when the gradient comes, where x is not what it was.
        """
        if not self.x.is_floating_point():
            return
        self._waiting.append(found)
        if len(self._waiting) == 1:
            version = self.x._version
            self.gradient(lambda gradient: self._multiply(gradient, version))

    def _multiply(self, gradient: Tensor, version: int) -> None:
        if self.x._version != version:
            raise BadModel(
                f"what {self.reader.contraction.path!r} reads is written over later in the forward, so that its part "
                "in the gradient is lost; use a criterion that takes no gradients, or write x = x + y for x += y"
            )
        x, g = self.by_example(self.x), self.by_example(gradient)
        step = max(1, CHUNK // max(x.shape[1] * x.shape[2], 1))
        total = torch.cat([(a * b).sum(1) for a, b in zip(x.split(step), g.split(step), strict=True)])
        for found in self._waiting:
            found(total.to("cpu", torch.float64))


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


def unread(graph: Graph) -> dict[str, str]:
    """Group -> that no layer reads it, for those of which that is so."""
    read = {name for reader in readers(graph).values() for name in reader.groups}
    return {g.name: "no layer that can be watched reads it" for g in graph.groups if g.name not in read}


@contextmanager
def at_readers(
    graph: Graph,
    held: dict[int, Reader],
    seen: Callable[[Reader, Tensor, int], None],
    gate: Callable[[Reader, Tensor, int], Tensor] = lambda reader, x, axis: x,
) -> Iterator[None]:
    """Meanwhile, `seen(reader, x, axis)` for each reading, with what the layer reads, and `gate` of it is read."""
    ops = AtContractions(graph.trace, lambda _, x: x)
    with ops, _Calls(ops, held, seen, gate):
        yield


class _Calls(TorchFunctionMode):
    def __init__(
        self,
        ops: AtContractions,
        held: dict[int, Reader],
        seen: Callable[[Reader, Tensor, int], None],
        gate: Callable[[Reader, Tensor, int], Tensor],
    ) -> None:
        super().__init__()
        self._ops, self._readers, self._seen, self._gate = ops, held, seen, gate

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in TRANSPARENT:
            with self:
                return TRANSPARENT[func](*args, **kwargs)
        met = self._ops.met
        reader = self._readers.get(met)
        with torch._C.DisableTorchFunction():  # other modes have no need to see that a shape was looked at
            found = None if reader is None else _operand(getattr(func, "__name__", ""), reader.contraction, args)
        if reader is None or found is None:
            return func(*args, **kwargs)
        place, axis = found
        # An alias of its own for each reading: its gradient is that of this reading, not of all uses of the tensor.
        mine = args[place].view_as(args[place])
        gated = self._gate(reader, mine, axis)
        result = func(*args[:place], gated, *args[place + 1 :], **kwargs)
        if self._ops.met != met + 1:  # a depthwise convolution, say, which is no reader
            return result if gated is mine else func(*args, **kwargs)
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
