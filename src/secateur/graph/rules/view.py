"""Ops that split, merge, permute and repeat axes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..labels import Axis, frozen_axis, is_live
from ..provenance import Size, Traced, attributes_in, axes_in
from ..tracer import Tracer
from .base import Call, freeze_all, rule

_STATED = {"view", "reshape", "expand", "broadcast_to", "unflatten"}


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


@rule("aten.view", "aten._unsafe_view", "aten.reshape", "aten._reshape_copy", "aten.view_copy")
def view(tracer: Tracer, call: Call) -> None:
    """Split and merge axes; sizes that the author stated must follow a cut."""
    x, output = call.args[0], call.outputs[0]
    if call.name == "aten.view.dtype":
        tracer.set(output, tuple(frozen_axis(n) for n in output.shape))
        for axis in tracer.axes(x):
            tracer.freeze(axis, "its bytes are seen as another type")
        return
    axes = reshaped(tracer, tracer.axes(x), tuple(output.shape))
    tracer.set(output, axes)
    _require(tracer, axes)


@rule("aten.unsqueeze")
def unsqueeze(tracer: Tracer, call: Call) -> None:
    """A new axis of one index."""
    axes = list(tracer.axes(call.args[0]))
    axes.insert(call.args[1] % (len(axes) + 1), frozen_axis(1))
    tracer.set(call.outputs[0], tuple(axes))


@rule("aten.squeeze", "aten.squeeze_")
def squeeze(tracer: Tracer, call: Call) -> None:
    """Axes of one index go; that index must stay."""
    axes = tracer.axes(call.args[0])
    dims = call.arg(1, "dim", list(range(len(axes))))
    dims = {d % len(axes) for d in ([dims] if isinstance(dims, int) else dims)} if axes else set()
    for d in dims:
        # Of a longer axis two indices stay, for one alone would be taken away, too.
        tracer.freeze(axes[d][:2], "an axis of one index is taken away")
    tracer.set(call.outputs[0], tuple(a for d, a in enumerate(axes) if d not in dims or a.size != 1))


@rule("aten.expand")
def expand(tracer: Tracer, call: Call) -> None:
    """Axes of one index are repeated; new ones come in front."""
    own, shape = tracer.axes(call.args[0]), tuple(call.outputs[0].shape)
    lead = len(shape) - len(own)
    axes = [frozen_axis(n) for n in shape]
    for i, axis in enumerate(own):
        if axis.size == shape[lead + i]:
            axes[lead + i] = axis
        else:
            tracer.freeze(axis, "a single index expanded to many")
    sizes = _sizes(tracer)
    for i, value in enumerate(sizes if len(sizes) == len(axes) else []):
        if i < lead or own[i - lead].size != shape[i]:  # made here, of a stated size: all its indices are equal
            axes[i] = stated_axis(tracer, value, shape[i])
    tracer.set(call.outputs[0], tuple(axes))
    _require(tracer, tuple(axes))


def stated_axis(tracer: Tracer, value: Any, n: int) -> Axis:
    """An axis of equal indices, as long as an int says: it may shrink if the int can follow."""
    source = value.source if isinstance(value, Traced) else n
    if not attributes_in(source) and not any(is_live(a) for a in axes_in(source)):
        return frozen_axis(n)
    axis = tracer.labels.fresh(n)
    tracer.require(value, axis, f"a size given to {tracer.call[0]}")
    return axis


def _sizes(tracer: Tracer) -> list[Any]:
    """The sizes stated in the author's call, flat; empty for calls that state none."""
    function, args, kwargs = tracer.call
    if function in ("view_as", "reshape_as", "expand_as") and len(args) > 1:
        return [Traced(a.size, Size(a)) for a in tracer.axes(args[1])]
    if function not in _STATED:
        return []
    if function == "unflatten":
        x, dim, sizes = args[0], tracer.stated(1, "dim"), tracer.stated(2, "sizes")
        dim = dim % x.dim() if isinstance(dim, int) else 0
        return [-1] * dim + list(sizes) + [-1] * (x.dim() - dim - 1)
    given = [*args[1:], *(kwargs.get(k, ()) for k in ("shape", "size"))]
    return [v for value in given for v in (value if isinstance(value, (tuple, list)) else (value,))]


def _require(tracer: Tracer, axes: tuple[Axis, ...]) -> None:
    sizes = _sizes(tracer)
    for axis, value in zip(axes, sizes if len(sizes) == len(axes) else [], strict=False):
        if isinstance(value, int) and value != -1:
            tracer.require(value, axis, f"a size given to {tracer.call[0]}")


def reshaped(tracer: Tracer, axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Labels of each new axis: runs of axes with equal products are matched and solved one by one."""
    result: list[Axis] = []
    old, new = [a for a in axes if a.size != 1], [n for n in shape if n != 1]
    i = j = 0
    while i < len(old) and j < len(new):
        run, made = [old[i]], [new[j]]
        have, want = old[i].size, new[j]
        while have != want:
            if have < want:
                i += 1
                run.append(old[i])
                have *= old[i].size
            else:
                j += 1
                made.append(new[j])
                want *= new[j]
        result += _solve(tracer, run, made)
        i, j = i + 1, j + 1
    rest = iter(result)
    for axis in axes:
        if axis.size == 1:
            tracer.freeze(axis, "an axis of one index is viewed away")
    return tuple(frozen_axis(1) if n == 1 else next(rest) for n in shape)


def _solve(tracer: Tracer, run: list[Axis], made: list[int]) -> list[Axis]:
    if len(run) == 1 and len(made) == 1:
        return run
    live = [k for k, axis in enumerate(run) if is_live(axis)]
    if not live:
        return [frozen_axis(n) for n in made]
    if len(live) == 1:
        k = live[0]
        before, after = prod(a.size for a in run[:k]), prod(a.size for a in run[k + 1 :])
        merged = np.tile(run[k].repeat(after), before)
    else:
        merged = tracer.labels.fresh(prod(a.size for a in run))
        tracer.product(merged, tuple(run))
    return _split(tracer, merged.reshape(made))


def _split(tracer: Tracer, merged: Axis) -> list[Axis]:
    """One axis seen as several: those along which labels differ become parts of a product."""
    if merged.ndim == 1:
        return [merged]
    first = [np.take(merged, [0], axis=d) for d in range(merged.ndim)]
    varied = [d for d in range(merged.ndim) if not (merged == first[d]).all()]
    axes = [frozen_axis(n) for n in merged.shape]
    if not varied:  # one label, everywhere
        tracer.freeze(merged.reshape(-1)[:1], "one index repeated along several axes")
        return axes
    core = merged[tuple(slice(None) if d in varied else 0 for d in range(merged.ndim))]
    if len(varied) == 1:
        axes[varied[0]] = core.copy()
        return axes
    for d in varied:
        axes[d] = tracer.labels.fresh(merged.shape[d])
    tracer.product(core.reshape(-1), tuple(axes[d] for d in varied))
    return axes


@rule("aten.repeat", "aten.tile")
def repeat(tracer: Tracer, call: Call) -> None:
    """Each axis so many times over; a single index becomes an axis that stays."""
    own, output = tracer.axes(call.args[0]), call.outputs[0]
    lead = output.dim() - len(own)
    axes = [frozen_axis(n) for n in output.shape]
    for i, axis in enumerate(own):
        if axis.size == 1 and output.shape[lead + i] != 1:
            tracer.freeze(axis, "a single index repeated")
        else:
            axes[lead + i] = np.tile(axis, output.shape[lead + i] // max(axis.size, 1))
    tracer.set(output, tuple(axes))


@rule("aten.repeat_interleave.self_int")
def repeat_interleave(tracer: Tracer, call: Call) -> None:
    """Each index of one axis so many times."""
    x, times, dim = call.args[0], call.args[1], call.arg(2, "dim")
    axes = list(tracer.axes(x))
    if dim is None:
        axes = list(reshaped(tracer, tuple(axes), (x.numel(),)))
        dim = 0
    axes[dim] = axes[dim].repeat(times)
    tracer.set(call.outputs[0], tuple(axes))


@rule("aten.flip")
def flip(tracer: Tracer, call: Call) -> None:
    """Backwards."""
    dims = {d % call.args[0].dim() for d in call.args[1]}
    tracer.set(
        call.outputs[0], tuple(a[::-1].copy() if d in dims else a for d, a in enumerate(tracer.axes(call.args[0])))
    )


@rule("aten.roll")
def roll(tracer: Tracer, call: Call) -> None:
    """Along an axis, those pushed out come in again in front; how many that are must follow a cut."""
    x, shifts, dims = call.args[0], call.args[1], call.arg(2, "dims", ())
    stated = tracer.stated(1, "shifts")
    stated = list(stated) if isinstance(stated, (tuple, list)) else [stated]
    axes = list(tracer.axes(x))
    if not dims:
        for axis in axes:
            tracer.freeze(axis, "rolled along all axes at once")
    for d, shift, value in zip(dims, shifts, stated, strict=False):
        axis = axes[d]
        if is_live(axis) and shift:
            if 0 < shift < axis.size:
                tracer.require(value, axis[axis.size - shift :], "a shift given to roll")
            else:
                backwards = -axis.size < shift < 0
                tracer.freeze(axis[:-shift] if backwards else axis, "rolled by a number that cannot follow")
        axes[d] = np.roll(axis, int(shift))
    tracer.set(call.outputs[0], tuple(axes))


@rule("aten.as_strided", "aten.as_strided_")
def strided(tracer: Tracer, call: Call) -> None:
    """Pooling to one pixel only restates strides; anything else sees memory in an order that labels do not know."""
    x, output = call.args[0], call.outputs[0]
    if tracer.call[0] in ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean") and x.shape == output.shape:
        tracer.set(output, tracer.axes(x))
    else:
        freeze_all(tracer, call, "its memory is seen in another order")
