"""Ops that move axes: view, permute, slice, pad, cat and their kin."""

from __future__ import annotations

import sys
from math import prod

import numpy as np

from ..labels import Axis, frozen_axis, is_live
from ..tracer import STATES_SIZES, Tracer
from .base import Call, rule


@rule("aten.t", "aten.transpose", "aten.permute", "aten.numpy_T")
def permute(tracer: Tracer, call: Call) -> None:
    """Axes change places."""
    x = call.args[0]
    order = list(range(x.dim()))
    if call.name.startswith("aten.permute"):
        order = [d % x.dim() for d in call.args[1]]
    elif call.name.startswith("aten.transpose"):
        a, b = (d % x.dim() for d in call.args[1:3])
        order[a], order[b] = order[b], order[a]
    else:
        order.reverse()
    axes = tracer.axes(x)
    tracer.set(call.outputs[0], tuple(axes[d] for d in order))


@rule("aten.view", "aten._unsafe_view", "aten.reshape", "aten.unsqueeze", "aten.squeeze", "aten.expand")
def view(tracer: Tracer, call: Call) -> None:
    """Split and merge axes: pairs of runs of axes with equal products are matched and solved one by one."""
    x, output = call.args[0], call.outputs[0]
    if call.name.startswith("aten.expand"):
        axes = expanded(tracer, tracer.axes(x), tuple(output.shape))
    else:
        axes = reshaped(tracer, tracer.axes(x), tuple(output.shape))
    tracer.set(output, axes)
    function, stated, _ = tracer.call
    if function in STATES_SIZES and not call.name.startswith(("aten.unsqueeze", "aten.squeeze")):
        sizes = _flat(stated[1:])[-output.dim() :]
        for i, axis in enumerate(axes):
            value = sizes[i] if i < len(sizes) else None
            if is_live(axis) and value != -1:
                tracer.require(value, axis, f"a size given to {function}")


def _flat(values: tuple[object, ...]) -> list[object]:
    return [v for value in values for v in (value if isinstance(value, (tuple, list)) else (value,))]


def expanded(tracer: Tracer, axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Axes of one index are repeated; new ones come in front."""
    lead = len(shape) - len(axes)
    result = [frozen_axis(n) for n in shape]
    for i, axis in enumerate(axes):
        if axis.size == shape[lead + i]:
            result[lead + i] = axis
        else:
            tracer.freeze(axis, "a single index expanded to many")
    return tuple(result)


def reshaped(tracer: Tracer, axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Labels of each new axis; what cannot be told apart is frozen by name."""
    result: list[Axis] = []
    old, new = [a for a in axes if a.size != 1], [n for n in shape if n != 1]
    i = j = 0
    while i < len(old) and j < len(new):
        run, made = [old[i]], [new[j]]
        while prod(a.size for a in run) != prod(made):
            if prod(a.size for a in run) < prod(made):
                i += 1
                run.append(old[i])
            else:
                j += 1
                made.append(new[j])
        result += _solve(tracer, run, made)
        i, j = i + 1, j + 1
    for axis in axes:
        if axis.size == 1:
            tracer.freeze(axis, "an axis of one index is viewed away")
    rest = iter(result)
    return tuple(frozen_axis(1) if n == 1 else next(rest) for n in shape)


def _solve(tracer: Tracer, run: list[Axis], made: list[int]) -> list[Axis]:
    live = [k for k, axis in enumerate(run) if is_live(axis)]
    if not live:
        return [frozen_axis(n) for n in made]
    if len(live) > 1:
        for k in live:
            tracer.freeze(run[k], "flattened together with another axis that can be cut")
        return [frozen_axis(n) for n in made]
    k = live[0]
    before, after = prod(a.size for a in run[:k]), prod(a.size for a in run[k + 1 :])
    merged = np.tile(run[k].repeat(after), before).reshape(made)
    return _split(tracer, merged, made)


def _split(tracer: Tracer, merged: np.ndarray, made: list[int]) -> list[Axis]:
    """One live axis seen as several: fine when only one of the new ones tells its indices apart."""
    for d in range(len(made)):
        line = np.moveaxis(merged, d, 0).reshape(made[d], -1)
        if (line == line[:, :1]).all():
            return [line[:, 0].copy() if e == d else frozen_axis(n) for e, n in enumerate(made)]
    tracer.freeze(merged.reshape(-1), f"split into axes of {' x '.join(map(str, made))}")
    return [frozen_axis(n) for n in made]


@rule("aten.slice")
def slice_(tracer: Tracer, call: Call) -> None:
    """A part of one axis. The whole of it passes; a proper part is decided by numbers that could not follow a cut."""
    x, output = call.args[0], call.outputs[0]
    d = call.arg(1, "dim", 0) % x.dim()
    start, end, step = call.arg(2, "start"), call.arg(3, "end"), call.arg(4, "step", 1)
    axes = list(tracer.axes(x))
    whole = (start or 0) == 0 and (end is None or end == sys.maxsize) and step == 1
    if not whole:
        tracer.freeze(axes[d], "sliced by plain numbers")
        axes[d] = axes[d][slice(start, end, step)]
    tracer.set(output, tuple(axes))


@rule("aten.select")
def select(tracer: Tracer, call: Call) -> None:
    """One index of an axis, which must then stay."""
    x, output = call.args[0], call.outputs[0]
    d = call.args[1] % x.dim()
    axes = list(tracer.axes(x))
    tracer.freeze(axes.pop(d), "one index of it is read by number")
    tracer.set(output, tuple(axes))


@rule("aten.constant_pad_nd")
def pad(tracer: Tracer, call: Call) -> None:
    """Constant indices before and after; on an axis that can be cut they can too, if the amounts can be rewritten."""
    x, output = call.args[0], call.outputs[0]
    amounts = list(call.args[1])
    stated = tracer.stated(1, "pad")
    axes = list(tracer.axes(x))
    for k in range(len(amounts) // 2):
        d = x.dim() - 1 - k
        before, after = amounts[2 * k : 2 * k + 2]
        if (before or after) and is_live(axes[d]):
            axes[d] = _padded(tracer, axes[d], (before, after), stated[2 * k : 2 * k + 2])
        elif before or after:
            axes[d] = frozen_axis(output.shape[d])
    tracer.set(output, tuple(axes))


def _padded(tracer: Tracer, axis: Axis, amounts: tuple[int, int], stated: tuple[int, int]) -> Axis:
    parts = []
    for amount, value in zip(amounts, stated, strict=True):
        if amount < 0:
            tracer.freeze(axis, "cropped by a negative pad")
            return frozen_axis(axis.size + sum(amounts))
        part = tracer.labels.fresh(amount)
        if amount:
            tracer.require(value, part, "a padding")
        parts.append(part)
    return np.concatenate([parts[0], axis, parts[1]])


@rule("aten.cat")
def cat(tracer: Tracer, call: Call) -> None:
    """Joined along one axis, equal along the others."""
    pieces = [t for t in call.args[0] if t.numel() or t.dim() > 1]
    d = call.arg(1, "dim", 0) % pieces[0].dim()
    axes = list(tracer.axes(pieces[0]))
    for piece in pieces[1:]:
        for i, axis in enumerate(tracer.axes(piece)):
            axes[i] = np.concatenate([axes[i], axis]) if i == d else tracer.unify(axes[i], axis)
    tracer.set(call.outputs[0], tuple(axes))


@rule(
    "aten.clone",
    "aten.detach",
    "aten.alias",
    "aten._to_copy",
    "aten.lift_fresh",
    "aten.zeros_like",
    "aten.ones_like",
    "aten.empty_like",
    "aten.native_dropout",
    "aten.contiguous",
)
def same(tracer: Tracer, call: Call) -> None:
    """A tensor of the same axes."""
    for output in call.outputs:
        tracer.set(output, tracer.axes(call.args[0]))


@rule("aten.embedding")
def embedding(tracer: Tracer, call: Call) -> None:
    """Rows of a table by number: the rows stay, the width passes."""
    table, index = call.args[0], call.args[1]
    rows, width = tracer.axes(table)
    tracer.freeze(rows, "rows of a table are read by number")
    tracer.set(call.outputs[0], (*tracer.axes(index), width))


@rule("aten.empty", "aten.zeros", "aten.ones", "aten.full", "aten.arange", "aten.scalar_tensor", "aten.empty_strided")
def constant(tracer: Tracer, call: Call) -> None:
    """A new tensor of stated size: nothing in it can be cut."""
    for output in call.outputs:
        tracer.set(output, tuple(frozen_axis(n) for n in output.shape))


@rule("aten.split")
def split(tracer: Tracer, call: Call) -> None:
    """Pieces of one axis. `chunk` into equal pieces goes on so if all lose the same; stated sizes could not follow."""
    x, d = call.args[0], call.arg(2, "dim", 0) % call.args[0].dim()
    axes = list(tracer.axes(x))
    axis, sizes = axes[d], [piece.shape[d] for piece in call.outputs]
    if is_live(axis) and (tracer.call[0] != "chunk" or len(set(sizes)) > 1):
        tracer.freeze(axis, "split into stated or unequal sizes")
    elif is_live(axis):
        rows = axis.reshape(len(sizes), -1)
        tracer.unify(rows[:-1].reshape(-1), rows[1:].reshape(-1))
    for piece, start in zip(call.outputs, np.cumsum([0, *sizes[:-1]]), strict=True):
        axes[d] = axis[start : start + piece.shape[d]]
        tracer.set(piece, tuple(axes))
