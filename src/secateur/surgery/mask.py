"""Masked execution: run a model as if units were gone, without touching it.

A unit is gone when nothing reads it. So every multiply-and-sum op sees zeros where removed units arrive, and every op
that sums, averages or ranks along an axis runs over the indices that are kept. The ops are those of the trace, met in
the same order; a forward that takes another path is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import VerificationError
from ..graph.example import Example, call
from ..graph.labels import Axis
from ..graph.record import Contraction, Reduction, Trace
from ..graph.replay import AtContractions, Change
from ..graph.trace import undisturbed


def along(x: Tensor, axis: int, values: Tensor) -> Tensor:
    """`values` (n,) shaped to multiply `x` along `axis`."""
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


def select(x: Tensor, axes: Sequence[Axis], alive: Tensor) -> Tensor:
    """Only the kept indices of each axis; an axis along which `x` is one index broadcast passes."""
    for d, axis in enumerate(axes):
        keep = alive[torch.from_numpy(axis)]
        if x.shape[d] == axis.size and not keep.all():
            x = x.index_select(d, keep.nonzero().flatten().to(x.device))
    return x


def _spread(y: Tensor, axes: Sequence[Axis], alive: Tensor) -> Tensor:
    """Zeros where indices are gone."""
    for d, axis in enumerate(axes):
        keep = alive[torch.from_numpy(axis)]
        if not keep.all():
            shape = (*y.shape[:d], axis.size, *y.shape[d + 1 :])
            y = y.new_zeros(shape).index_copy(d, keep.nonzero().flatten().to(y.device), y)
    return y


def renumbered(x: Tensor, axis: Axis | None, alive: Tensor) -> Tensor:
    """Numbers of all indices, as numbers of kept indices."""
    if axis is None:
        return x
    number = alive[torch.from_numpy(axis)].cumsum(0) - 1
    return number.to(x.device)[x.long()].to(x.dtype)


def _numbered(y: Tensor, axis: Axis | None, alive: Tensor) -> Tensor:
    """Numbers of kept indices, as numbers of all indices."""
    return y if axis is None else alive[torch.from_numpy(axis)].nonzero().flatten().to(y.device)[y]


def _over_kept(
    alive: Tensor, reduction: Reduction, op: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The same op on the kept indices alone."""
    held = [axes for axes in (*reduction.inputs, *reduction.outputs) if axes is not None]
    if all(bool(alive[torch.from_numpy(axis)].all()) for axes in held for axis in axes):
        return op(*args, **kwargs)
    cut = [a if axes is None else select(a, axes, alive) for a, axes in zip(args, reduction.inputs, strict=True)]
    if "layer_norm" in reduction.op or "rms_norm" in reduction.op:
        cut[1] = list(cut[0].shape[cut[0].dim() - len(cut[1]) :])
    if "group_norm" in reduction.op:
        cut[3], cut[4] = cut[0].shape[:2]
        if reduction.groups is not None:
            cut[6] = int(alive[torch.from_numpy(reduction.groups)].sum())
    made = op(*cut, **kwargs)
    each = (made,) if isinstance(made, Tensor) else made
    if reduction.numbers:
        each = [_numbered(y, axis, alive) for y, axis in zip(each, reduction.numbers, strict=True)]
    spread = [_spread(y, axes, alive) for y, axes in zip(each, reduction.outputs, strict=True)]
    return spread[0] if isinstance(made, Tensor) else tuple(spread)


@torch.no_grad()
def masked_forward(model: nn.Module, trace: Trace, example: Example, alive: Tensor, after: Change | None = None) -> Any:
    """The model's output in eval mode with all labels masked that are not `alive` (labels,)."""

    def zero(labels: Axis, axis: int, x: Tensor) -> Tensor:
        keep = alive[torch.from_numpy(labels)]
        if keep.all():
            return x
        # `where`, not a product: 0 * inf would be NaN, and a removed channel may hold anything.
        return torch.where(along(x, axis, keep).to(x.device), x, torch.zeros((), dtype=x.dtype))

    def before(contraction: Contraction, x: Tensor) -> Tensor:
        return zero(contraction.labels, contraction.axis, x)

    def reduce(reduction: Reduction, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _over_kept(alive, reduction, op, args, kwargs) if reduction.inputs else op(*args, **kwargs)

    gone = [join for r in trace.residuals if not alive[torch.from_numpy(r.axis)].all() for join in r.joins]
    with undisturbed(model), AtContractions(trace, before, after, reduce, zero, gone) as ops:
        output = call(model, example)
    if ops.met != len(trace.contractions):
        missed = trace.contractions[ops.met]
        raise VerificationError(
            f"the forward took another path than when it was traced: it never ran {missed.op} at {missed.path!r}"
        )
    return output
