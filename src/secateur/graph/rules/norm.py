"""Normalisations. Batch norm treats every channel alone; the others reduce over channels, of those that are kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..labels import Axis, frozen_axis, is_live
from ..record import AFFINE, BLOCK, EQUAL, WEIGHED
from ..tracer import Tracer
from .base import STATED, Call, rule


def _scaled(tracer: Tracer, axis: Axis, by: tuple[Any, ...]) -> Axis:
    """The axis, each of whose indices has one number in each of these tensors."""
    for tensor in by:
        if isinstance(tensor, Tensor):
            own = tracer.axes(tensor)[0]
            tracer.mark(own, AFFINE)
            axis = tracer.unify(axis, own)
    return axis


@rule(
    "aten.native_batch_norm",
    "aten._native_batch_norm_legit",
    "aten._native_batch_norm_legit_no_training",
    "aten.cudnn_batch_norm",
)
def batch_norm(tracer: Tracer, call: Call) -> None:
    """(B, C, ...): scale, shift, mean and variance follow the channel; statistics of this batch are a reduction."""
    x, output = call.args[0], call.outputs[0]
    axes = list(tracer.axes(x))
    axes[1] = _scaled(tracer, axes[1], call.args[1:5])
    tracer.norm(x, *(t if isinstance(t, Tensor) else None for t in call.args[1:4]))
    tracer.set(output, tuple(axes))
    for statistic in call.outputs[1:]:
        if statistic.dim() == 1 and statistic.shape[0] == axes[1].size:
            tracer.set(statistic, (axes[1],))
    tracer.reduce(call.record, (axes[0], *axes[2:]))


def rms_norm(tracer: Tracer, x: Tensor, normalized_shape: Any, *_: Any, **__: Any) -> None:
    """Some devices take it apart; what its caller stated must follow all the same."""
    for axis, value in zip(tracer.axes(x)[-len(normalized_shape) :], normalized_shape, strict=True):
        tracer.require(value, axis, "normalized_shape")


STATED["rms_norm"] = rms_norm


@rule("aten.native_layer_norm", "aten._fused_rms_norm")
def layer_norm(tracer: Tracer, call: Call) -> None:
    """Mean and variance over the last axes, of the indices that are kept."""
    x = call.args[0]
    axes = list(tracer.axes(x))
    first = len(axes) - len(call.args[1])
    named = tracer.call[0] in ("layer_norm", "rms_norm")
    stated = tracer.stated(1, "normalized_shape") if named else call.args[1]
    for d in range(first, len(axes)):
        tracer.require(stated[d - first], axes[d], "normalized_shape")
        for tensor in call.args[2:4]:
            if isinstance(tensor, Tensor):
                own = tracer.axes(tensor)[d - first]
                tracer.mark(own, AFFINE)
                axes[d] = tracer.unify(axes[d], own)
    tracer.set(call.outputs[0], tuple(axes))
    for statistic in call.outputs[1:]:  # they keep an axis of one index where they were taken
        sizes = zip(axes, statistic.shape, strict=True)
        tracer.set(statistic, tuple(a if a.size == n else frozen_axis(n) for a, n in sizes))
    tracer.reduce(call.record, axes[first:])


@rule("aten.native_group_norm")
def group_norm(tracer: Tracer, call: Call) -> None:
    """Mean and variance over groups of channels, of those that are kept; groups stay equal, or go whole."""
    x, groups = call.args[0], int(call.args[6])
    axes = list(tracer.axes(x))
    axes[1] = _scaled(tracer, axes[1], call.args[1:3])
    tracer.set(call.outputs[0], tuple(axes))
    blocks = None
    if is_live(axes[1]):
        blocks, parts = tracer.labels.fresh(groups), tracer.labels.fresh(axes[1].size // groups)
        tracer.product(axes[1], (blocks, parts))
        tracer.mark(parts, EQUAL)
        tracer.mark(blocks, BLOCK)
        tracer.require(tracer.stated(1, "num_groups"), blocks, "num_groups")
    for axis in axes[2:]:
        if is_live(axis):
            tracer.freeze(axis, "a group norm takes its mean over it")
    tracer.reduce(call.record, axes[1:], blocks)


@rule("aten._softmax", "aten._log_softmax", "aten._safe_softmax")
def softmax(tracer: Tracer, call: Call) -> None:
    """A sum over one axis, of the indices that are kept."""
    axes = tracer.axes(call.args[0])
    tracer.set(call.outputs[0], axes)
    for axis in [axes[call.args[1]]] if axes else []:
        tracer.mark(axis, WEIGHED)
    tracer.reduce(call.record, [axes[call.args[1]]] if axes else [])


@rule("aten._weight_norm_interface")
def weight_norm(tracer: Tracer, call: Call) -> None:
    """v / |v| * g, the norm over all axes but one."""
    v, g, dim = call.args[0], call.args[1], call.arg(2, "dim", 0)
    axes = list(tracer.axes(v))
    axes[dim] = tracer.unify(axes[dim], tracer.axes(g)[dim])
    tracer.set(call.outputs[0], tuple(axes))
    tracer.reduce(call.record, [a for d, a in enumerate(axes) if d != dim])
