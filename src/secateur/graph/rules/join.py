"""Ops that join tensors or make new ones: cat, stack, pad, copies and constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..labels import Axis, frozen_axis, is_live
from ..provenance import Traced
from ..tracer import Tracer
from .base import Call, rule
from .view import stated_axis

_MAKES = {"zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_empty", "new_full", "rand", "randn"}


@rule("aten.constant_pad_nd")
def pad(tracer: Tracer, call: Call) -> None:
    """Constant indices before and after; on an axis that can be cut they can too, if the amounts can be rewritten."""
    x, output = call.args[0], call.outputs[0]
    amounts = list(call.args[1])
    stated = tracer.stated(1, "pad") if tracer.call[0] == "pad" else amounts
    axes = list(tracer.axes(x))
    for k in range(len(amounts) // 2):
        d = x.dim() - 1 - k
        before, after = amounts[2 * k : 2 * k + 2]
        if (before or after) and is_live(axes[d]):
            axes[d] = _padded(tracer, axes[d], (before, after), stated[2 * k : 2 * k + 2])
        elif before or after:
            axes[d] = frozen_axis(output.shape[d])
    tracer.set(output, tuple(axes))


def _padded(tracer: Tracer, axis: Axis, amounts: Sequence[int], stated: Sequence[int]) -> Axis:
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


@rule("aten.reflection_pad1d", "aten.reflection_pad2d", "aten.reflection_pad3d")
@rule("aten.replication_pad1d", "aten.replication_pad2d", "aten.replication_pad3d")
def mirrored(tracer: Tracer, call: Call) -> None:
    """Padded with copies of the border, along the last axes."""
    axes, output = tracer.axes(call.args[0]), call.outputs[0]
    space = len(call.args[1]) // 2
    for axis in axes[-space:]:
        tracer.freeze(axis, "padded with copies of its border")
    tracer.set(output, (*axes[:-space], *(frozen_axis(n) for n in output.shape[-space:])))


@rule("aten.cat")
def cat(tracer: Tracer, call: Call) -> None:
    """Joined along one axis, equal along the others."""
    pieces = [t for t in call.args[0] if t.numel() or t.dim() > 1]
    d = call.arg(1, "dim", 0) % pieces[0].dim()
    axes = list(tracer.axes(pieces[0]))
    joined = []
    for piece in pieces:
        for i, axis in enumerate(tracer.axes(piece)):
            if i == d:
                joined.append(axis)
            elif piece is not pieces[0]:
                axes[i] = tracer.unify(axes[i], axis)
    axes[d] = np.concatenate(joined)
    tracer.set(call.outputs[0], tuple(axes))


@rule("aten.stack")
def stack(tracer: Tracer, call: Call) -> None:
    """Joined along a new axis, equal along the others."""
    pieces, dim = call.args[0], call.arg(1, "dim", 0)
    axes = list(tracer.axes(pieces[0]))
    for piece in pieces[1:]:
        axes = [tracer.unify(a, b) for a, b in zip(axes, tracer.axes(piece), strict=True)]
    axes.insert(dim % (len(axes) + 1), frozen_axis(len(pieces)))
    tracer.set(call.outputs[0], tuple(axes))


@rule(
    "aten.clone",
    "aten.detach",
    "aten.alias",
    "aten._to_copy",
    "aten.lift_fresh",
    "aten.lift_fresh_copy",
    "aten.zeros_like",
    "aten.ones_like",
    "aten.full_like",
    "aten.empty_like",
    "aten.rand_like",
    "aten.native_dropout",
    "aten.contiguous",
    "aten.zero_",
    "aten.fill_",
    "aten.fill",
)
def same(tracer: Tracer, call: Call) -> None:
    """A tensor of the same axes."""
    for output in call.outputs:
        tracer.set(output, tracer.axes(call.args[0]))


@rule("aten.zeros", "aten.ones", "aten.full", "aten.empty", "aten.new_zeros", "aten.new_ones", "aten.new_empty")
@rule("aten.new_full", "aten.empty_strided", "aten.new_empty_strided", "aten.rand", "aten.randn")
def constant(tracer: Tracer, call: Call) -> None:
    """A new tensor of equal indices: an axis may shrink where its size was stated by an int that can follow."""
    output = call.outputs[0]
    sizes = _stated_sizes(tracer, output)
    tracer.set(output, tuple(stated_axis(tracer, v, n) for v, n in zip(sizes, output.shape, strict=True)))


def _stated_sizes(tracer: Tracer, output: Tensor) -> list[Any]:
    function, args, kwargs = tracer.call
    if function not in _MAKES:
        return [None] * output.dim()
    given = [a for a in args if not isinstance(a, Tensor)] + [kwargs.get("size", ())]
    flat = [v for value in given for v in (value if isinstance(value, (tuple, list)) else (value,))]
    sizes = [v if isinstance(v, Traced) else None for v in flat[: output.dim()]]
    return sizes if len(sizes) == output.dim() else [None] * output.dim()


@rule(
    "aten.arange", "aten.scalar_tensor", "aten.linspace", "aten.eye", "aten.randint", "aten.randperm", "aten.bernoulli"
)
@rule("aten._local_scalar_dense", "aten.tensor", "aten.full.names")
def places(tracer: Tracer, call: Call) -> None:
    """A new tensor whose indices differ: none can be cut."""
    for output in call.outputs:
        tracer.set(output, tuple(frozen_axis(n) for n in output.shape))
