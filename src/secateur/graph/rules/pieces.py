"""Ops that take a part of an axis: slice, select, split, index and their kin."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ..labels import Axis, frozen_axis, is_live
from ..provenance import Apply, Traced, source_of
from ..record import EXPERT, IN, OUT, WEIGHED
from ..tracer import Tracer
from .base import Call, freeze_all, rule
from .numbers import pass_on, picked


@rule("aten.slice")
def slice_(tracer: Tracer, call: Call) -> None:
    """A part of one axis; where it starts and ends must follow a cut, or the indices before must stay."""
    x, output = call.args[0], call.outputs[0]
    d, n = call.arg(1, "dim", 0) % x.dim(), x.shape[call.arg(1, "dim", 0)]
    start, end, step = call.arg(2, "start") or 0, call.arg(3, "end"), call.arg(4, "step", 1)
    axes = list(tracer.axes(x))
    end = n if end is None or end == sys.maxsize else end
    first, last, _ = slice(start, end, step).indices(n)
    if is_live(axes[d]):
        if step != 1:
            tracer.freeze(axes[d], "sliced in steps")
        else:
            stated = _stated(tracer, first, last, n)
            _bound(tracer, stated[0], first, axes[d])
            _bound(tracer, stated[1], last, axes[d])
    axes[d] = axes[d][slice(first, last, step)]
    assert axes[d].size == output.shape[d]
    tracer.set(output, tuple(axes))


def _bound(tracer: Tracer, value: Any, at: int, axis: Axis) -> None:
    """A bound at index `at`: as many indices before it, or behind it when counted from the end, must stay."""
    if not 0 < at < axis.size:
        if isinstance(value, Traced) and value == axis.size:
            tracer.require(value, axis, "the end of a slice")
        return
    if isinstance(value, Traced):
        negative = int(value) < 0
        counted = Traced(-int(value), Apply("neg", (source_of(value),))) if negative else value
        tracer.reads(value)
        tracer.require(counted, axis[at:] if negative else axis[:at], "a bound of a slice")
    elif isinstance(value, int) and value < 0:
        tracer.freeze(axis[at:], "sliced at a plain number from the end")
    else:
        tracer.freeze(axis[:at], "sliced at a plain number")


def _stated(tracer: Tracer, first: int, last: int, n: int) -> tuple[Any, Any]:
    """The bounds as the author wrote them."""
    function, args, _ = tracer.call
    if function == "narrow":
        start, length = tracer.stated(2, "start"), tracer.stated(3, "length")
        tracer.reads(start, length)
        return start, start + length
    if function in ("__getitem__", "__setitem__"):
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        parts = [p for p in index if isinstance(p, slice)]
        for place in range(tracer.sliced, len(parts)):  # they run in the order in which they are written
            if parts[place].indices(n)[:2] == (first, last):
                tracer.sliced = place + 1
                return parts[place].start, parts[place].stop
    return first, last


@rule("aten.select")
def select(tracer: Tracer, call: Call) -> None:
    """One index of an axis; it must stay, and so must those by which it is counted."""
    x, output = call.args[0], call.outputs[0]
    d, at = call.args[1] % x.dim(), int(call.args[2])
    axes = list(tracer.axes(x))
    axis = axes.pop(d)
    tracer.freeze(axis[at:] if at < 0 else axis[: at + 1], "an index of it is read by number")
    tracer.set(output, tuple(axes))


@rule("aten.unbind")
def unbind(tracer: Tracer, call: Call) -> None:
    """Every index on its own."""
    x, d = call.args[0], call.arg(1, "dim", 0) % call.args[0].dim()
    axes = list(tracer.axes(x))
    tracer.freeze(axes.pop(d), "its indices are taken apart")
    for output in call.outputs:
        tracer.set(output, tuple(axes))


@rule(
    "aten.split", "aten.split_with_sizes", "aten.unsafe_split", "aten.unsafe_chunk", "aten.chunk", "aten.tensor_split"
)
def split(tracer: Tracer, call: Call) -> None:
    """Pieces of one axis, in equal numbers or of sizes that must follow a cut."""
    x, d = call.args[0], call.arg(2, "dim", 0) % call.args[0].dim()
    axes = list(tracer.axes(x))
    axis, sizes = axes[d], [piece.shape[d] for piece in call.outputs]
    starts = np.cumsum([0, *sizes])
    pieces = [axis[a:b] for a, b in pairwise(starts)]
    if is_live(axis):
        _sizes(tracer, pieces)
    for output, piece in zip(call.outputs, pieces, strict=True):
        axes[d] = piece
        tracer.set(output, tuple(axes))


def _sizes(tracer: Tracer, pieces: list[Axis]) -> None:
    function, args, _ = tracer.call
    equal = len({p.size for p in pieces}) == 1
    stated = args[1] if len(args) > 1 else tracer.stated(1, "split_size")
    for name in ("split_size_or_sections", "split_sizes"):
        stated = tracer.stated(1, name) if stated is None else stated
    if function in {"split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"} and (
        (isinstance(stated, int) and equal) or isinstance(stated, (tuple, list))
    ):
        sizes = [stated] * len(pieces) if isinstance(stated, int) else stated
        for size, piece in zip(sizes, pieces, strict=True):
            tracer.require(size, piece, f"a size given to {function}")
    elif equal:  # so many equal pieces: each must lose as many as the others
        for piece in pieces[1:]:
            tracer.unify(pieces[0], piece)
    else:
        for piece in pieces:
            tracer.freeze(piece, "split into unequal pieces")


@rule("aten.glu")
def glu(tracer: Tracer, call: Call) -> None:
    """One half of an axis gates the other."""
    x, d = call.args[0], call.arg(1, "dim", -1) % call.args[0].dim()
    axes = list(tracer.axes(x))
    half = axes[d].size // 2
    axes[d] = tracer.unify(axes[d][:half], axes[d][half:])
    tracer.set(call.outputs[0], tuple(axes))


@rule("aten.index_put", "aten.index_put_", "aten._unsafe_index_put")
@rule("aten.index", "aten._unsafe_index", numbers=True)
def index(tracer: Tracer, call: Call) -> None:
    """Indices read, or written, by number must stay; axes that no number reads pass."""
    x, at = call.args[0], list(call.args[1])
    axes = tracer.axes(x)
    if any(t is not None and t.dtype in (torch.bool, torch.uint8) and t.dim() != 1 for t in at):
        return freeze_all(tracer, call, "picked by a mask")
    read = [d for d, t in enumerate(at) if t is not None]
    experts = False
    for d in read:
        if "put" in call.name or not picked(tracer, axes[d], at[d], EXPERT):
            tracer.freeze(axes[d], "its indices are read by number")
        elif tracer.is_static(x):
            tracer.mark(axes[d], IN)
            experts = True
    for tensor in at:
        if tensor is not None:
            for axis in tracer.axes(tensor):
                tracer.freeze(axis, "used as numbers of indices")
    passed = [axes[d] for d in range(x.dim()) if d not in read]
    numbers = torch.broadcast_shapes(*(t.shape for t in at if t is not None))
    # Neighbouring numbers leave what they read in their place, others in front.
    place = read[0] if read == list(range(read[0], read[-1] + 1)) else 0
    made = (*passed[:place], *map(frozen_axis, numbers), *passed[place:])
    if "index_put" in call.name:
        return _put(tracer, call, axes, made)
    tracer.set(call.outputs[0], made)
    pass_on(tracer, x, call.outputs)
    if tracer.is_static(x) and (x.dim() > 2 or experts):  # the weights of the experts that tokens were sent to
        tracer.chosen(call.outputs[0], x)
    return None


def _put(tracer: Tracer, call: Call, axes: tuple[Axis, ...], made: tuple[Axis, ...]) -> None:
    """`made`: the axes of the part that is written."""
    values = tracer.axes(call.args[2])
    for axis, other in zip(reversed(made), reversed(values), strict=False):
        if axis.size == other.size:
            tracer.unify(axis, other)
        else:
            tracer.freeze(axis, "written with other widths")
            tracer.freeze(other, "written into other widths")
    tracer.set(call.outputs[0], axes)


@rule("aten.index_select", "aten.gather", "aten.take_along_dim", numbers=True)
def index_select(tracer: Tracer, call: Call) -> None:
    """One axis is read by number."""
    x, d, at = call.args[:3]
    axes = list(tracer.axes(x))
    if not picked(tracer, axes[d], at, WEIGHED if call.name.startswith("aten.gather") else EXPERT):
        tracer.freeze(axes[d], "its indices are read by number")
    elif tracer.is_static(x):
        tracer.mark(axes[d], IN)
        tracer.chosen(call.outputs[0], x)
    pass_on(tracer, x, call.outputs)
    own = tracer.axes(at)
    axes[d] = own[d if call.name.startswith("aten.gather") else 0] if own else frozen_axis(1)
    if call.name.startswith("aten.gather"):
        for e, axis in enumerate(tracer.axes(at)):
            if e != d and axis.size == axes[e].size:
                axes[e] = tracer.unify(axes[e], axis)
            elif e != d:
                tracer.freeze(axes[e], "gathered in part")
                axes[e] = frozen_axis(axis.size)
    tracer.set(call.outputs[0], tuple(axes))


@rule("aten.index_add", "aten.index_add_", "aten.index_copy", "aten.index_copy_")
def index_add(tracer: Tracer, call: Call) -> None:
    """Along one axis written by number; the others meet."""
    x, d, _, source = call.args[:4]
    axes = list(tracer.axes(x))
    for e, axis in enumerate(tracer.axes(source)):
        if e == d % x.dim():
            tracer.freeze(axis, "its indices are written by number")
            tracer.freeze(axes[e], "its indices are written by number")
        else:
            axes[e] = tracer.unify(axes[e], axis)
    tracer.set(call.outputs[0], tuple(axes))


@rule("aten.embedding", numbers=True)
def embedding(tracer: Tracer, call: Call) -> None:
    """Rows of a table by number: the rows stay, the width passes."""
    table, at = call.args[0], call.args[1]
    rows, width = tracer.axes(table)
    if call.arg(2, "padding_idx", -1) >= 0:  # the number of a row
        tracer.unread(at)
        tracer.freeze(rows, "one of its rows is named by number")
    elif not picked(tracer, rows, at, EXPERT):
        tracer.freeze(rows, "rows of a table are read by number")
    if tracer.is_static(table):
        tracer.mark(rows, IN)
        tracer.mark(width, OUT)
        tracer.writer(call.outputs[0], "embedding", table, width, None, axis=width)
    tracer.set(call.outputs[0], (*tracer.axes(at), width))


@rule("aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(tracer: Tracer, call: Call) -> None:
    """Sums, means or maxima of rows of a table: the rows stay, the width passes."""
    table, weights = call.args[0], call.arg(6, "per_sample_weights")
    rows, width = tracer.axes(table)
    tracer.freeze(rows, "rows of a table are read by number")
    for axis in tracer.axes(weights) if weights is not None else ():
        tracer.freeze(axis, "weighs rows of a table")
    for output in call.outputs:
        tracer.set(output, tuple(frozen_axis(n) for n in output.shape))
    if tracer.is_static(table):
        tracer.mark(width, OUT)
        tracer.writer(call.outputs[0], "embedding", table, width, None, axis=width)
    tracer.set(call.outputs[0], (frozen_axis(call.outputs[0].shape[0]), width))


@rule("aten.cumprod", "aten.logcumsumexp", "aten.tril", "aten.triu")
def ordered(tracer: Tracer, call: Call) -> None:
    """What an index gives depends on its place."""
    axes = tracer.axes(call.args[0])
    where = axes[-2:] if "tri" in call.name else [axes[call.args[1]]] if axes else []
    for axis in where:
        tracer.freeze(axis, f"{call.name} depends on the place along it")
    tracer.set(call.outputs[0], axes)


@rule("aten.unfold")
def unfold(tracer: Tracer, call: Call) -> None:
    """Windows along one axis."""
    x, d = call.args[0], call.args[1] % max(call.args[0].dim(), 1)
    axes = list(tracer.axes(x))
    tracer.freeze(axes[d], "windows slide along it")
    axes[d] = frozen_axis(call.outputs[0].shape[d])
    tracer.set(call.outputs[0], (*axes, frozen_axis(call.outputs[0].shape[-1])))
