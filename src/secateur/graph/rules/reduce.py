"""Pooling, resizing and reductions."""

from __future__ import annotations

import numpy as np

from ..labels import frozen_axis, is_live
from ..tracer import Tracer
from .base import Call, pointwise, rule

_POOLS = [
    *(f"aten.{kind}_pool{n}d" for kind in ("avg", "_adaptive_avg", "adaptive_avg") for n in (1, 2, 3)),
    *(f"aten.max_pool{n}d_with_indices" for n in (2, 3)),
    *(f"aten.adaptive_max_pool{n}d" for n in (1, 2, 3)),
    *(f"aten.upsample_nearest{n}d" for n in (1, 2, 3)),
    *(f"aten._upsample_nearest_exact{n}d" for n in (1, 2, 3)),
    "aten.upsample_linear1d",
    "aten.upsample_trilinear3d",
    *(f"aten.{aa}upsample_{kind}2d{tail}" for kind in ("bilinear", "bicubic") for aa, tail in (("", ""), ("_", "_aa"))),
]


@rule(*_POOLS)
def pool(tracer: Tracer, call: Call) -> None:
    """Batch and channels pass; space is made anew."""
    x = call.args[0]
    axes = tracer.axes(x)
    kept = x.dim() - (1 if "1d" in call.name else 3 if "3d" in call.name else 2)
    for axis in axes[kept:]:
        tracer.freeze(axis, f"{call.name} slides along it")
    for output in call.outputs:
        tracer.set(output, (*axes[:kept], *(frozen_axis(n) for n in output.shape[kept:])))


@rule("aten.im2col")
def im2col(tracer: Tracer, call: Call) -> None:
    """(B, C, H, W) -> (B, C * kernel, positions)."""
    x, output = call.args[0], call.outputs[0]
    axes = tracer.axes(x)
    for axis in axes[-2:]:
        tracer.freeze(axis, "windows slide along it")
    channels = axes[-3].repeat(output.shape[-2] // max(axes[-3].size, 1))
    tracer.set(output, (*axes[:-3], channels, frozen_axis(output.shape[-1])))


@rule("aten.col2im")
def col2im(tracer: Tracer, call: Call) -> None:
    """(B, C * kernel, positions) -> (B, C, H, W): the kernel's places of one channel go together."""
    x, output = call.args[0], call.outputs[0]
    axes = list(tracer.axes(x))
    tracer.freeze(axes[-1], "windows slide along it")
    channels = tracer.labels.fresh(output.shape[-3])
    places = tracer.labels.fresh(axes[-2].size // output.shape[-3])
    tracer.freeze(places, "windows slide along it")
    tracer.product(axes[-2], (channels, places))
    tracer.set(output, (*axes[:-2], channels, *(frozen_axis(n) for n in output.shape[-2:])))


@rule("aten.pixel_shuffle", "aten.pixel_unshuffle")
def pixel_shuffle(tracer: Tracer, call: Call) -> None:
    """(B, C * r * r, H, W) <-> (B, C, r * H, r * W): the r * r channels that make one go together."""
    x, output = call.args[0], call.outputs[0]
    axes = list(tracer.axes(x))
    for axis in axes[-2:]:
        tracer.freeze(axis, f"{call.name} slides along it")
    own, made = axes[-3].size, output.shape[-3]
    if own > made:
        channels = tracer.labels.fresh(made)
        tracer.unify(axes[-3], channels.repeat(own // made))
    else:
        channels = axes[-3].repeat(made // own)
    tracer.set(output, (*axes[:-3], channels, *(frozen_axis(n) for n in output.shape[-2:])))


@rule("aten.channel_shuffle", "aten.native_channel_shuffle")
def channel_shuffle(tracer: Tracer, call: Call) -> None:
    """(B, groups * C, ...) -> (B, C * groups, ...)."""
    x, groups = call.args[0], int(call.args[1])
    axes = list(tracer.axes(x))
    blocks, parts = tracer.labels.fresh(groups), tracer.labels.fresh(axes[1].size // groups)
    tracer.freeze(blocks, "groups of a channel shuffle stay whole")
    tracer.product(axes[1], (blocks, parts))
    axes[1] = np.ascontiguousarray(axes[1].reshape(groups, -1).T).reshape(-1)
    tracer.set(call.outputs[0], tuple(axes))


_REDUCTIONS = ["mean", "sum", "prod", "amax", "amin", "aminmax", "max", "min", "argmax", "argmin", "any", "all", "norm"]
_REDUCTIONS += ["var", "std", "var_mean", "std_mean", "logsumexp", "linalg_vector_norm", "nansum", "count_nonzero"]
_SECOND = {"linalg_vector_norm": 2, "norm": 2}  # where the axes come after an order


@rule(*(f"aten.{name}" for name in _REDUCTIONS))
def reduce(tracer: Tracer, call: Call) -> None:
    """Reduced over the indices that are kept; the other axes pass."""
    name = call.name.split(".")[1]
    if len(call.inputs) == 2 and name in ("max", "min"):  # of two tensors, element by element
        return pointwise(tracer, call)
    x = call.args[0]
    dims = call.arg(_SECOND.get(name, 1), "dim")
    if dims is None or dims == [] or isinstance(dims, bool):
        dims = list(range(x.dim()))
    dims = {d % x.dim() for d in ([dims] if isinstance(dims, int) else dims)} if x.dim() else set()
    axes = tracer.axes(x)
    keep = call.outputs[0].dim() == x.dim()
    passed = [frozen_axis(1) if d in dims else axes[d] for d in range(x.dim()) if keep or d not in dims]
    for out in call.outputs:
        tracer.set(out, tuple(passed))
    over = [axes[d] for d in sorted(dims)]
    if any(is_live(axis) for axis in over) and ("arg" in name or (name in ("max", "min") and len(call.outputs) == 2)):
        numbers = np.concatenate(over) if len(over) > 1 else over[0]
        tracer.numbers.enter(call.outputs[-1], "mixed" if len(over) > 1 else "number", numbers)
    tracer.reduce(call.record, over)
    return None
