"""Normalisations. Batch norm treats every channel alone; the others reduce over channels."""

from __future__ import annotations

from torch import Tensor

from ..labels import is_live
from ..record import AFFINE
from ..tracer import Tracer
from .base import Call, rule


@rule(
    "aten.native_batch_norm",
    "aten._native_batch_norm_legit",
    "aten._native_batch_norm_legit_no_training",
    "aten.cudnn_batch_norm",
)
def batch_norm(tracer: Tracer, call: Call) -> None:
    """(B, C, ...): scale, shift, mean and variance follow the channel."""
    x, output = call.args[0], call.outputs[0]
    axes = list(tracer.axes(x))
    for tensor in call.args[1:5]:
        if isinstance(tensor, Tensor):
            own = tracer.axes(tensor)[0]
            tracer.mark(own, AFFINE)
            axes[1] = tracer.unify(axes[1], own)
    tracer.norm(x, *(t if isinstance(t, Tensor) else None for t in call.args[1:4]))
    tracer.set(output, tuple(axes))


@rule("aten.native_layer_norm")
def layer_norm(tracer: Tracer, call: Call) -> None:
    """Mean and variance over the last axes: cutting them changes the statistics, so they stay."""
    _reduce(tracer, call, call.args[0].dim() - len(call.args[1]), "a layer norm takes its mean over it")


@rule("aten.native_group_norm")
def group_norm(tracer: Tracer, call: Call) -> None:
    """Mean and variance over groups of channels: cutting them changes the statistics, so they stay."""
    _reduce(tracer, call, 1, "a group norm takes its mean over it")


def _reduce(tracer: Tracer, call: Call, start: int, reason: str) -> None:
    x = call.args[0]
    for axis in tracer.axes(x)[start:]:
        tracer.freeze(axis, reason)
    for tensor in call.inputs[1:]:
        for axis in tracer.axes(tensor):
            tracer.freeze(axis, reason)
    tracer.set(call.outputs[0], tracer.axes(x))


@rule("aten._softmax", "aten._log_softmax", "aten._safe_softmax")
def softmax(tracer: Tracer, call: Call) -> None:
    """A sum over one axis, which therefore stays."""
    x, axis = call.args[0], call.args[1]
    if is_live(tracer.axes(x)[axis]):
        tracer.freeze(tracer.axes(x)[axis], "a softmax sums over it")
    tracer.set(call.outputs[0], tracer.axes(x))
