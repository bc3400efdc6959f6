"""Masked execution: run a model as if units were gone, without touching it.

A unit is gone when nothing reads it. So every multiply-and-sum op sees zeros where removed units arrive. The ops are
those of the trace, met in the same order; a forward that takes another path is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import VerificationError
from ..graph.example import Example, call
from ..graph.record import Contraction, Trace
from ..graph.trace import undisturbed

Change = Callable[[Contraction, Tensor], Tensor]
_PACKETS = {"aten.convolution", "aten.mm", "aten.bmm", "aten.addmm"}


class AtContractions(TorchDispatchMode):
    """At each multiply-and-sum op `before(contraction, x)` on what it reads, `after(contraction, y)` on the result."""

    def __init__(self, trace: Trace, before: Change, after: Change | None = None) -> None:
        super().__init__()
        self._contractions = trace.contractions
        self._before, self._after = before, after
        self.met = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).rpartition(".")[0] not in _PACKETS or self._unmasked(func, args):
            return func(*args, **(kwargs or {}))
        if self.met == len(self._contractions):
            raise VerificationError(f"the forward ran {func} once more than when it was traced")
        contraction = self._contractions[self.met]
        self.met += 1
        x = args[contraction.argument]
        if not x.dim() > contraction.axis or x.shape[contraction.axis] != contraction.labels.size:
            raise VerificationError(
                f"the forward took another path than when it was traced: {func} at {contraction.path or 'the model'} "
                f"reads {tuple(x.shape)}, expected {contraction.labels.size} at axis {contraction.axis}"
            )
        args = list(args)
        args[contraction.argument] = self._before(contraction, x)
        result = func(*args, **(kwargs or {}))
        return result if self._after is None else self._after(contraction, result)

    def _unmasked(self, func: Any, args: Any) -> bool:
        """A depthwise convolution sums over nothing, and a grouped transposed one is frozen: neither is a record."""
        if not str(func).startswith("aten.convolution"):
            return False
        weight, transposed, groups = args[1], args[6], args[8]
        return groups > 1 and (transposed or weight.shape[1] == 1)


def along(x: Tensor, axis: int, values: Tensor) -> Tensor:
    """`values` (n,) shaped to multiply `x` along `axis`."""
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


@torch.no_grad()
def masked_forward(model: nn.Module, trace: Trace, example: Example, alive: Tensor, after: Change | None = None) -> Any:
    """The model's output in eval mode with all labels masked that are not `alive` (labels,)."""

    def before(contraction: Contraction, x: Tensor) -> Tensor:
        keep = alive[torch.from_numpy(contraction.labels)]
        if keep.all():
            return x
        # `where`, not a product: 0 * inf would be NaN, and a removed channel may hold anything.
        return torch.where(along(x, contraction.axis, keep).to(x.device), x, torch.zeros((), dtype=x.dtype))

    with undisturbed(model), AtContractions(trace, before, after) as ops:
        output = call(model, example)
    if ops.met != len(trace.contractions):
        missed = trace.contractions[ops.met]
        raise VerificationError(
            f"the forward took another path than when it was traced: it never ran {missed.op} at {missed.path!r}"
        )
    return output
