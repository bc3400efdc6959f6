"""Ops that hide several products inside: counted, and frozen, for nothing inside them can be followed here."""

from __future__ import annotations

from math import prod

from ..labels import frozen_axis
from ..tracer import Tracer
from .base import Call, rule


def _freeze(tracer: Tracer, call: Call, reason: str) -> None:
    for tensor in call.inputs:
        for axis in tracer.axes(tensor):
            tracer.freeze(axis, reason)
    for tensor in call.outputs:
        tracer.set(tensor, tuple(frozen_axis(n) for n in tensor.shape))


@rule(
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
)
def attention(tracer: Tracer, call: Call) -> None:
    """(..., L, D), (..., S, D), (..., S, V): L * S * D products for the weights, L * S * V for their use."""
    query, key, value = call.args[:3]
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    tracer.term("matmul", pairs * (query.shape[-1] + value.shape[-1]))
    _freeze(tracer, call, "a fused attention reads it")


@rule("aten.mkldnn_rnn_layer")
def recurrent(tracer: Tracer, call: Call) -> None:
    """(T, B, I) with (gates * H, I) and (gates * H, H): every step multiplies with both."""
    x, weights = call.args[0], [t for t in call.args[1:3] if t.dim() == 2]
    tracer.term("linear", prod(x.shape[:-1]) * sum(w.numel() for w in weights))
    _freeze(tracer, call, "a fused recurrent layer reads it")
