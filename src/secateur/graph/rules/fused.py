"""Functions that hide several products inside, seen whole: attention, recurrent layers, grouped matrix products."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from ..labels import is_live
from ..record import EXPERT, HEAD, IN, OUT
from ..tracer import Tracer
from .base import Call, freeze_all, function, rule


@function("scaled_dot_product_attention")
def attention(
    tracer: Tracer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """(..., H, L, D), (..., H, S, D), (..., H, S, V) -> (..., H, L, V); heads meet, of queries perhaps many times."""
    output = query.new_empty((*map(int, query.shape[:-1]), int(value.shape[-1])))
    q, k, v = (list(tracer.axes(t)) for t in (query, key, value))
    for axis in (*q[-1:], *k[-1:]):
        tracer.freeze(axis, "attention sums over it and scales by its length")
    for axis in (*k[-2:-1], *v[-2:-1], *(q[-2:-1] if is_causal else ())):
        tracer.freeze(axis, "attention weighs its indices against each other")
    lead = q[:-2]
    for own in (k[:-2], v[:-2]):
        for i, axis in enumerate(own):
            times = lead[i].size // axis.size
            lead[i] = tracer.unify(lead[i], axis.repeat(times)) if axis.size > 1 or times == 1 else lead[i]
    for axis in lead:  # heads need not come last: windows may follow them
        tracer.mark(axis, HEAD)
    axes = (*lead, q[-2], v[-1])
    if attn_mask is not None:
        for axis, other in zip(reversed((*lead, q[-2], k[-2])), reversed(tracer.axes(attn_mask)), strict=False):
            if axis.size == other.size and axis.size > 1:
                tracer.unify(axis, other)
    inputs = [t for t in (query, key, value, attn_mask) if t is not None]
    tracer.saw("scaled_dot_product_attention", inputs, [output])
    tracer.set(output, axes)
    tracer.whole("scaled_dot_product_attention")
    live = [axis for axis in lead[:-1] if is_live(axis)]
    others = prod(axis.size for axis in lead[:-1] if not is_live(axis))
    for inner, columns in ((q[-1], k[-2]), (k[-2], v[-1])):
        tracer.term("matmul", others, *live, *lead[-1:], q[-2], inner, columns)
    return output


@function("_grouped_mm", "grouped_mm")
def grouped_product(
    tracer: Tracer, x: Tensor, weight: Tensor, offs: Tensor | None = None, bias: Tensor | None = None, **_: Any
) -> Tensor:
    """(rows, K) with (experts, K, N) -> (rows, N): each row meets the expert that it was sent to."""
    output = x.new_empty((int(x.shape[0]), int(weight.shape[-1])))
    inputs, w = [t for t in (x, weight, offs, bias) if t is not None], tracer.axes(weight)
    if offs is not None and offs.dim() == 1 and tracer.numbers.word(offs) == "end":  # to what is gone no row is sent
        tracer.mark(tracer.unify(tracer.axes(offs)[0], w[0]), EXPERT | IN)
    else:
        tracer.freeze(w[0], "rows are sent to experts by number")
    read, written = tracer.unify(tracer.axes(x)[1], w[1]), w[2]
    if bias is not None:
        tracer.unify(written, tracer.axes(bias)[-1])
    tracer.saw("grouped_mm", inputs, [output])
    tracer.set(output, (tracer.axes(x)[0], written))
    tracer.mark(w[1], IN)
    tracer.mark(w[2], OUT)
    tracer.writer(output, "linear", weight, written, bias, axis=written)
    tracer.whole(tracer.call[0], [((0,), 1, read)])
    tracer.term("linear", int(x.shape[0]), read, written)
    return output


@rule(
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
)
def hidden_attention(tracer: Tracer, call: Call) -> None:
    """Attention that was called from inside another function: counted, and frozen."""
    query, key, value = call.args[:3]
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    tracer.term("matmul", pairs * (query.shape[-1] + value.shape[-1]))
    freeze_all(tracer, call, "a fused attention reads it")


@rule("aten.mkldnn_rnn_layer")
def hidden_recurrent(tracer: Tracer, call: Call) -> None:
    """(T, B, I) with (gates * H, I) and (gates * H, H): every step multiplies with both."""
    x, weights = call.args[0], [t for t in call.args[1:3] if t.dim() == 2]
    tracer.term("linear", prod(x.shape[:-1]) * sum(w.numel() for w in weights))
    freeze_all(tracer, call, "a fused recurrent layer reads it")
