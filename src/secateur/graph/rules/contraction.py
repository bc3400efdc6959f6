"""Ops that multiply and sum: convolution and the matrix products."""

from __future__ import annotations

from math import prod

from torch import Tensor

from ..labels import Axis, frozen_axis, is_live
from ..record import IN, OUT, Geometry
from ..tracer import Tracer
from .base import Call, rule


@rule("aten.convolution")
def convolution(tracer: Tracer, call: Call) -> None:
    """(B, I, *space) with (O, I/groups, *kernel): input channels meet the kernel's, outputs are the kernel's own."""
    x, weight = call.args[0], call.args[1]
    bias, transposed, groups = call.arg(2, "bias"), call.arg(6, "transposed"), call.arg(8, "groups")
    w = tracer.axes(weight)
    w_out, w_in = (w[1], w[0]) if transposed else (w[0], w[1])
    space = x.dim() - 2
    if groups == 1:
        walk = None if transposed else Geometry(*(tuple(map(int, call.args[i])) for i in (3, 4, 5)))
        tracer.contract("convolution", x, 0, 1, w_in, weight, walk)
        out, in_term = w_out, w_in
    else:
        out, in_term = _grouped(tracer, x, weight, groups, bool(transposed))
    tracer.mark(out, OUT)
    for axis in w[2:]:
        tracer.freeze(axis, "a position of a convolution kernel")
    output = call.outputs[0]
    if bias is not None:
        out = tracer.unify(out, tracer.axes(bias)[0])
    positions = prod((x if transposed else output).shape[2:]) * prod(weight.shape[2:]) * output.shape[0]
    tracer.term("conv", positions, out, in_term)
    tracer.set(output, (tracer.axes(x)[0], out, *(frozen_axis(n) for n in output.shape[-space:])))
    facts = {"resolution": tuple(output.shape[2:]), "kernel": tuple(weight.shape[2:]), "groups": int(groups)}
    tracer.writer(output, "conv", weight, w_out, bias, axis=out, transposed=bool(transposed), **facts)


def _grouped(tracer: Tracer, x: Tensor, weight: Tensor, groups: int, transposed: bool) -> tuple[Axis, Axis]:
    """Labels of the output channels, and the axis of the other operand in the cost (kept input channels per group)."""
    x_axis = tracer.axes(x)[1]
    w = tracer.axes(weight)
    if transposed:  # (I, O/groups, *kernel); tying both sides is work for later, and refusing is exact
        tracer.freeze(x_axis, "a grouped transposed convolution reads it")
        tracer.freeze(w[0], "a grouped transposed convolution reads it")
        tracer.freeze(w[1], "a grouped transposed convolution writes it")
        return frozen_axis(w[1].size * groups), frozen_axis(x_axis.size // groups)
    tracer.freeze(w[1] if w[1].size == 1 else w[1][:0], "the one input channel of a depthwise convolution")
    if w[1].size == 1:  # depthwise: each channel keeps to itself, and `groups` follows the width
        multiplier = w[0].size // groups
        out = tracer.unify(x_axis.repeat(multiplier), w[0])
        tracer.require(tracer.stated(6, "groups"), x_axis, "groups")
        return (w[0] if not is_live(out) else out), frozen_axis(1)
    # Grouped: the i-th channel of every group goes at once, so that groups stay equal.
    tracer.contract("convolution", x, 0, 1, _tile(w[1], groups), weight)
    tracer.mark(w[1], IN)
    per_group = w[0].reshape(groups, -1)
    tracer.unify(per_group[:-1].reshape(-1), per_group[1:].reshape(-1))
    return w[0], w[1]


def _tile(axis: Axis, times: int) -> Axis:
    return axis.reshape(1, -1).repeat(times, 0).reshape(-1)


def _matmul(tracer: Tracer, call: Call, a: Tensor, b: Tensor, first: int, bias: Tensor | None) -> None:
    """(..., m, k) @ (..., k, n); leading axes, if any, are element-wise."""
    output = call.outputs[0]
    a_axes, b_axes = tracer.axes(a), tracer.axes(b)
    # The activation is the operand masked in the reference; of two activations either will do.
    if tracer.is_static(a) and not tracer.is_static(b):
        tracer.contract(call.name, b, first + 1, -2, a_axes[-1], a)
    else:
        tracer.contract(call.name, a, first, -1, b_axes[-2], b)
    rows, columns = a_axes[-2], b_axes[-1]
    lead = tuple(tracer.unify(p, q) for p, q in zip(a_axes[:-2], b_axes[:-2], strict=True))
    if tracer.is_static(b):
        tracer.mark(columns, OUT)
    if bias is not None:
        columns = tracer.unify(columns, tracer.axes(bias)[-1])
    tracer.set(output, (*lead, rows, columns))
    kind = "linear" if tracer.is_static(b) or tracer.is_static(a) else "matmul"
    tracer.term(kind, prod(output.shape[:-2]), rows, a_axes[-1], columns)
    if kind == "linear":
        tracer.writer(output, "linear", b, b_axes[-1], bias, axis=columns)


@rule("aten.mm", "aten.bmm")
def mm(tracer: Tracer, call: Call) -> None:
    """Matrix product, or a batch of them."""
    _matmul(tracer, call, call.args[0], call.args[1], 0, None)


@rule("aten.addmm")
def addmm(tracer: Tracer, call: Call) -> None:
    """bias (n,) + (m, k) @ (k, n)."""
    _matmul(tracer, call, call.args[1], call.args[2], 1, call.args[0])
