"""Ops that multiply and sum: convolution and the matrix products."""

from __future__ import annotations

from math import prod

from torch import Tensor

from ..labels import Axis, frozen_axis, is_live
from ..record import BLOCK, EQUAL, HEAD, IN, OUT, STACKED, Convolution, Geometry
from ..tracer import Tracer
from .base import Call, rule


@rule("aten.convolution")
def convolution(tracer: Tracer, call: Call) -> None:
    """(B, I, *space) with (O, I/groups, *kernel): input channels meet the kernel's, outputs are the kernel's own."""
    x, weight = call.args[0], call.args[1]
    bias, transposed, groups = call.arg(2, "bias"), bool(call.arg(6, "transposed")), call.arg(8, "groups")
    w = tracer.axes(weight)
    for axis in (*w[2:], *tracer.axes(x)[2:]):
        if is_live(axis):
            tracer.freeze(axis, "a convolution slides along it")
    walk = Geometry(*(tuple(map(int, call.args[i])) for i in (3, 4, 5)))
    if groups == 1:
        written, read = (w[1], w[0]) if transposed else (w[0], w[1])
        tracer.contract("convolution", x, 0, 1, read, weight, None if transposed else walk)
        out = written
    else:
        out, read, written = _grouped(tracer, x, weight, groups, transposed)
    tracer.mark(written, OUT)
    output = call.outputs[0]
    if bias is not None:
        out = tracer.unify(out, tracer.axes(bias)[0])
    positions = prod((x if transposed else output).shape[2:]) * prod(weight.shape[2:]) * output.shape[0]
    size, kernel = tuple(map(int, x.shape[2:])), tuple(map(int, weight.shape[2:]))
    told = Convolution(int(x.shape[0]), size, kernel, walk, int(groups), transposed)
    tracer.term("conv", positions, out, read, conv=told)
    tracer.set(output, (tracer.axes(x)[0], out, *(frozen_axis(n) for n in output.shape[2:])))
    facts = {"resolution": tuple(output.shape[2:]), "kernel": kernel, "groups": int(groups)}
    tracer.writer(output, "conv", weight, written, bias, axis=out, transposed=transposed, **facts)


def _grouped(tracer: Tracer, x: Tensor, weight: Tensor, groups: int, transposed: bool) -> tuple[Axis, Axis, Axis]:
    """Labels of the output channels; the other axis of the cost (kept input channels a group); the written axis."""
    x_axis, w = tracer.axes(x)[1], tracer.axes(weight)
    if not transposed and w[1].size == 1:  # depthwise: each channel keeps to itself, and `groups` follows the width
        tracer.freeze(w[1], "the one input channel of a depthwise convolution")
        out = tracer.unify(x_axis.repeat(w[0].size // groups), w[0])
        tracer.require(tracer.stated(6, "groups"), x_axis, "groups")
        return (w[0] if not is_live(out) else out), frozen_axis(1), w[0]
    blocks = tracer.labels.fresh(groups)
    tracer.require(tracer.stated(6, "groups"), blocks, "groups")
    tracer.mark(blocks, BLOCK)
    if transposed:  # (I, O/groups, *kernel)
        out, parts = tracer.labels.fresh(groups * w[1].size), tracer.labels.fresh(w[0].size // groups)
        tracer.product(w[0], (blocks, parts))
        tracer.product(out, (blocks, w[1]))
        tracer.contract("convolution", x, 0, 1, w[0], weight)
        tracer.mark(parts, EQUAL)
        tracer.mark(w[1], EQUAL)
        return out, parts, w[1]
    seen, parts = tracer.labels.fresh(groups * w[1].size), tracer.labels.fresh(w[0].size // groups)
    tracer.product(seen, (blocks, w[1]))
    tracer.product(w[0], (blocks, parts))
    tracer.contract("convolution", x, 0, 1, seen, weight)
    tracer.mark(w[1], IN | EQUAL)
    tracer.mark(parts, EQUAL)
    return w[0], w[1], w[0]


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
    linear = tracer.is_static(a) or tracer.is_static(b)
    if tracer.is_static(a) and tracer.is_static(b):  # a weight made of two: what they share is written and read here
        tracer.mark(b_axes[-2], OUT)
        tracer.mark(a_axes[-1], IN)
        tracer.writer(b, "linear", b, b_axes[-2], None, axis=b_axes[-2])
    elif linear:
        for tensor, axis in ((a, rows), (b, columns)):
            if tracer.is_static(tensor):
                tracer.mark(axis, OUT)
                for stack in tracer.axes(tensor)[:-2]:
                    tracer.mark(stack, STACKED)
    else:
        for axis in lead:
            tracer.mark(axis, HEAD)
    if bias is not None:
        columns = tracer.unify(columns, tracer.axes(bias)[-1])
    tracer.set(output, (*lead, rows, columns))
    tracer.term("linear" if linear else "matmul", prod(output.shape[:-3]), *lead[-1:], rows, a_axes[-1], columns)
    if tracer.is_static(b) and not tracer.is_static(a):
        tracer.writer(output, "linear", b, b_axes[-1], bias, axis=columns)
    elif tracer.is_static(a) and not tracer.is_static(b):
        tracer.writer(output, "linear", a, rows, bias, axis=rows)


@rule("aten.mm", "aten.bmm")
def mm(tracer: Tracer, call: Call) -> None:
    """Matrix product, or a batch of them."""
    _matmul(tracer, call, call.args[0], call.args[1], 0, None)


@rule("aten.addmm", "aten.baddbmm")
def addmm(tracer: Tracer, call: Call) -> None:
    """bias (n,) + (m, k) @ (k, n), or a batch of them; the bias may be of any shape that is spread over the product."""
    bias, a, b = call.args[:3]
    plain = bias.dim() == 1 and bias.shape[0] == b.shape[-1]
    _matmul(tracer, call, a, b, 1, bias if plain else None)
    if not plain:
        output, own = call.outputs[0], tracer.axes(bias)
        axes = tracer.axes(output)
        joined = [tracer.unify(p, q) if p.size == q.size else p for p, q in zip(axes[-len(own) :], own, strict=True)]
        tracer.set(output, (*axes[: len(axes) - len(own)], *joined))


@rule("aten.mv", "aten.dot")
def mv(tracer: Tracer, call: Call) -> None:
    """(m, k) @ (k,), or (k,) @ (k,)."""
    a, b = call.args[:2]
    tracer.unify(tracer.axes(a)[-1], tracer.axes(b)[0])
    if tracer.is_static(b) and not tracer.is_static(a):
        tracer.mark(tracer.axes(b)[0], IN)
    tracer.set(call.outputs[0], tracer.axes(a)[:-1])
    tracer.term("linear", 1, *tracer.axes(a))
    tracer.reduce(call.record, tracer.axes(b))
