"""Numbers of indices: ops that give them, pass them on, or pick, count and mark by them exactly.

Whatever else reads a number freezes the axis whose indices it numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..labels import Axis, frozen_axis, is_live
from ..record import EXPERT
from ..tracer import Tracer
from .base import NUMBERED, Call, freeze_all, function, rule

# Values change places, and nothing else.
_MOVES = {
    *(f"aten.{view}view" for view in ("", "_unsafe_")),
    *(f"aten.{name}" for name in ("reshape", "_reshape_copy", "view_copy", "unsqueeze", "squeeze", "expand")),
    *(f"aten.{name}" for name in ("t", "transpose", "permute", "numpy_T", "flip", "roll", "repeat", "tile")),
    *(f"aten.{name}" for name in ("slice", "select", "unbind", "split", "split_with_sizes", "unsafe_split", "chunk")),
    *(f"aten.{name}" for name in ("unsafe_chunk", "tensor_split", "repeat_interleave", "cat", "stack")),
    *(f"aten.{name}" for name in ("clone", "detach", "alias", "_to_copy", "lift_fresh", "lift_fresh_copy")),
}
_NOT_SO = {"aten.view.dtype", "aten.repeat_interleave.Tensor"}
# These take a tensor for its shape.
_SHAPED = {f"aten.{kind}_like" for kind in ("zeros", "ones", "full", "empty", "rand")}
_SHAPED |= {f"aten.new_{kind}" for kind in ("zeros", "ones", "full", "empty", "empty_strided")}


def follow(tracer: Tracer, call: Call) -> None:
    """What is known of inputs, said of outputs; numbers that are read in a way unknown freeze their axis."""
    if call.writes:
        for tensor in call.outputs:
            tracer.numbers.forget(tensor)
        tracer.unread(*call.outputs)
    if call.packet in NUMBERED or call.packet in _SHAPED:
        return
    narrowed = any(t.dtype == torch.bool for t in call.outputs)
    if call.packet in _MOVES and call.name not in _NOT_SO and not narrowed and not call.writes:
        _moved(tracer, call)
    else:
        tracer.unread(*call.inputs)
        if call.packet == "aten.sum" and tracer.numbers.word(call.args[0]) == "count":
            pass_on(tracer, call.args[0], call.outputs)


def _moved(tracer: Tracer, call: Call) -> None:
    """One tensor, or several of which each holds numbers of the same indices."""
    if len(call.inputs) == 1:
        return pass_on(tracer, call.inputs[0], call.outputs)
    found = [tracer.numbers.axis(t, "number") for t in call.inputs]
    axes = [axis for axis in found if axis is not None]
    if len(axes) < len(found) or len({axis.size for axis in axes}) > 1:
        return tracer.unread(*call.inputs)
    for axis in axes[1:]:
        tracer.unify(axes[0], axis)
    return pass_on(tracer, call.inputs[0], call.outputs)


def pass_on(tracer: Tracer, tensor: Tensor, outputs: Sequence[Tensor]) -> None:
    """Each output is about the axis that the tensor is about, in the same way."""
    word, axis = tracer.numbers.word(tensor), tracer.numbers.axis(tensor, "number", "mixed", "count", "end")
    if word is not None and axis is not None:
        for output in outputs:
            tracer.numbers.enter(output, word, axis)


def picked(tracer: Tracer, axis: Axis, at: Tensor, role: int) -> bool:
    """Whether `at` holds numbers of indices of just this axis, so that these may go, with those that number them.

    If it does not, and holds numbers of other indices, those must stay.
    """
    own = tracer.numbers.axis(at, "number")
    if own is None or own.size != axis.size:
        tracer.unread(at)
        return False
    tracer.mark(tracer.unify(own, axis), role)
    tracer.labels.rank(own, "the number of one of its indices is used", tracer.path)
    return True


@rule("aten.topk", "aten.sort", numbers=True)
def ranked(tracer: Tracer, call: Call) -> None:
    """Indices change places by their values: all must stay, but for the first few taken of experts."""
    x, values = call.args[0], call.outputs[0]
    d = call.arg(2 if "topk" in call.name else 1, "dim", -1) % max(x.dim(), 1)
    axes = list(tracer.axes(x))
    axis, taken = axes[d], values.shape[d]
    axes[d] = frozen_axis(taken)
    for output in call.outputs:
        tracer.set(output, tuple(axes))
    reason = f"{call.name} puts its indices into an order"
    if call.packet != "aten.topk" or taken >= axis.size or call.writes:
        tracer.freeze(axis, reason)
    elif is_live(axis):
        tracer.labels.rank(axis, reason, tracer.path)
        tracer.numbers.enter(call.outputs[1], "number", axis)
    if not call.writes:  # in order of their numbers indices stay when some of them go
        pass_on(tracer, x, [values])
    if call.packet == "aten.topk":
        tracer.reduce(call.record, [axis], least=taken)


@rule("aten.cumsum", numbers=True)
def added_up(tracer: Tracer, call: Call) -> None:
    """Counts may be added up along the axis that they count, for what is gone would count nothing."""
    x, output = call.args[0], call.outputs[0]
    axes, counted = tracer.axes(x), tracer.numbers.axis(x, "count")
    tracer.unread(x)
    tracer.set(output, axes)
    along = axes[call.args[1]] if axes else frozen_axis(0)
    if not is_live(along):
        if counted is not None:
            pass_on(tracer, x, [output])
    elif counted is not None and np.isin(along[along > 0], counted).all():
        tracer.numbers.enter(output, "end", counted)
    else:
        tracer.freeze(along, f"{call.name} depends on the place along it")


@rule("aten.histc", numbers=True)
def histogram(tracer: Tracer, call: Call) -> None:
    """How often each number comes, where there is a bin for each index."""
    x, (bins, low, high) = call.args[0], (call.arg(i, n, 0) for i, n in ((1, "bins"), (2, "min"), (3, "max")))
    axis = tracer.numbers.axis(x, "number")
    if axis is None or bins != axis.size or low != 0 or high not in (bins - 1, bins):
        tracer.unread(x)
        freeze_all(tracer, call, f"there is no rule for {call.name}")
        return
    if tracer.call[0] == "histc":
        bins, high = tracer.stated(1, "bins"), tracer.stated(3, "max")
    for own in tracer.axes(x):
        tracer.freeze(own, "counted together")
    tracer.reads(high)
    tracer.require(high if high == axis.size else high + 1, axis, "the end of a histogram")
    tracer.require(bins, axis, "a number of bins")
    _counted(tracer, call.outputs[0], (), axis)


def _counted(tracer: Tracer, output: Tensor, lead: tuple[Axis, ...], axis: Axis) -> None:
    tracer.mark(axis, EXPERT)
    tracer.set(output, (*lead, axis))
    tracer.numbers.enter(output, "count", axis)


@function("one_hot")
def one_hot(tracer: Tracer, tensor: Tensor, num_classes: int = -1) -> Tensor:
    """(...) -> (..., classes): a one at each number."""
    if num_classes < 0:
        return torch._C._nn.one_hot(tensor, num_classes)  # raises, for it depends on values
    output = tensor.new_empty((*tensor.shape, int(num_classes)), dtype=torch.long)
    axis = tracer.numbers.axis(tensor, "number")
    follows = axis is not None and axis.size == num_classes
    tracer.saw("one_hot", [tensor], [output], follows=follows)
    tracer.whole("one_hot")
    if axis is None or not follows:
        tracer.pin(num_classes, "an argument of one_hot")
        tracer.set(output, (*tracer.axes(tensor), frozen_axis(int(num_classes))))
    else:
        tracer.require(num_classes, axis, "num_classes")
        _counted(tracer, output, tracer.axes(tensor), axis)
    return output


@function("bincount")
def bincount(tracer: Tracer, input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number comes, where the least length is that of the axis."""
    axis = tracer.numbers.axis(input, "number")
    if axis is None or weights is not None or minlength != axis.size:
        return torch.bincount(input, weights, minlength)  # raises, for its length depends on values
    output = input.new_empty((axis.size,), dtype=torch.long)
    tracer.saw("bincount", [input], [output], follows=True)
    tracer.whole("bincount")
    for own in tracer.axes(input):
        tracer.freeze(own, "counted together")
    tracer.require(minlength, axis, "minlength")
    _counted(tracer, output, (), axis)
    return output


@rule(*(f"aten.scatter{kind}" for kind in ("", "_", "_add", "_add_", "_reduce", "_reduce_")), numbers=True)
def scatter(tracer: Tracer, call: Call) -> None:
    """Written along one axis by numbers of its indices; the other axes meet."""
    x, d, at = call.args[:3]
    source: Any = call.arg(3, "src")
    given = [source] if isinstance(source, Tensor) else []
    tracer.unread(x, *given)
    axes = list(tracer.axes(x))
    d %= max(x.dim(), 1)
    if not axes or not picked(tracer, axes[d], at, EXPERT):
        freeze_all(tracer, call, f"there is no rule for {call.name}")
        return
    for tensor in (at, *given):
        for e, axis in enumerate(tracer.axes(tensor)):
            if e != d and axis.size == axes[e].size:
                axes[e] = tracer.unify(axes[e], axis)
            else:
                tracer.freeze(axis, "written in part, or by number")
                tracer.freeze(axes[e] if e != d else axis, "written in part, or by number")
    tracer.set(call.outputs[0], tuple(axes))
