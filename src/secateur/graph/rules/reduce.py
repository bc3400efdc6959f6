"""Pooling and reductions."""

from __future__ import annotations

from ..labels import frozen_axis
from ..tracer import Tracer
from .base import Call, rule


@rule(
    "aten.max_pool2d_with_indices",
    "aten.avg_pool2d",
    "aten.avg_pool1d",
    "aten._adaptive_avg_pool2d",
    "aten.adaptive_max_pool2d",
    "aten.avg_pool3d",
    "aten.max_pool3d_with_indices",
    "aten._adaptive_avg_pool3d",
    "aten.upsample_nearest2d",
    "aten.upsample_bilinear2d",
)
def pool(tracer: Tracer, call: Call) -> None:
    """Batch and channels pass; space is made anew."""
    x = call.args[0]
    kept = x.dim() - (1 if "1d" in call.name else 3 if "3d" in call.name else 2)
    for output in call.outputs:
        tracer.set(output, (*tracer.axes(x)[:kept], *(frozen_axis(n) for n in output.shape[kept:])))


@rule("aten.mean", "aten.sum", "aten.amax", "aten.amin", "aten.var", "aten.max", "aten.min", "aten.argmax")
def reduce(tracer: Tracer, call: Call) -> None:
    """Reduced axes must stay; the others pass."""
    x, output = call.args[0], call.outputs[0]
    dims = call.arg(1, "dim")
    if dims is None or dims == []:
        dims = list(range(x.dim()))
    dims = {d % x.dim() for d in ([dims] if isinstance(dims, int) else dims)} if x.dim() else set()
    axes = tracer.axes(x)
    for d in dims:
        tracer.freeze(axes[d], f"{call.name} reduces over it")
    keep = output.dim() == x.dim()
    passed = [frozen_axis(1) if d in dims else axes[d] for d in range(x.dim()) if keep or d not in dims]
    for out in call.outputs:
        tracer.set(out, tuple(passed))
