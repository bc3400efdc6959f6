"""Sums: the sum that what a layer gives goes into, at the end of a residual branch, through its norm at most."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from ..graph.example import results, tensors
from ..graph.replay import AtContractions
from ..graph.residual import joins
from ..graph.trace import TRANSPARENT

_CONVOLUTIONS = {f"conv{d}d" for d in (1, 2, 3)}
_NORM = inspect.signature(F.batch_norm)


@dataclass(eq=False)
class _Way:
    """What a tensor is: `scale` times what contraction `number` gives, and a constant."""

    number: int
    linear: bool  # its outputs lie along the last axis, not the second
    scale: Tensor | None = None  # None: 1
    read: bool = False


class Sums(TorchFunctionMode):
    """Calls `seen(number, sum, scale)` where what one of the contractions gives is added to something else.

    `sum` is laid out as the contraction's own result, `scale` (outputs,) is what a batch norm between multiplies with.
    No sum is seen with another of the contractions between it and the result: that one may make up for the sum itself.
    `shared`: contractions whose results anything else reads as well, by now.
    """

    def __init__(
        self, ops: AtContractions, wanted: Collection[int], seen: Callable[[int, Tensor, Tensor | None], None]
    ) -> None:
        super().__init__()
        self.shared: set[int] = set()
        self._ops, self._wanted, self._seen = ops, wanted, seen
        self._ways: Any = WeakTensorKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in TRANSPARENT:
            with self:
                return TRANSPARENT[func](*args, **kwargs)
        name, met = getattr(func, "__name__", ""), self._ops.met
        adds = joins(name, args, kwargs)
        ways = [self._ways[a] for a in tensors((args, kwargs)) if a in self._ways]
        result = func(*args, **kwargs)
        if not any(True for _ in results(result)):
            return result  # its shape, say
        for way in ways:
            if way.read:
                self.shared.add(way.number)
            way.read = True
        if not isinstance(result, Tensor):
            return result
        self._ways.pop(result, None)  # written in place
        if self._ops.met == met + 1 and met in self._wanted and (name == "linear" or name in _CONVOLUTIONS):
            self._ways[result] = _Way(met, name == "linear")
        elif adds:
            for way in ways:
                if not any(n in self._wanted for n in range(way.number + 1, met)):
                    with _disable_current_modes(), torch._C.DisableTorchFunction():  # they are no part of the model
                        self._seen(way.number, result.flatten(0, -2) if way.linear else result, way.scale)
        elif len(ways) == 1 and (way := _through(name, ways[0], args, kwargs)) is not None:
            self._ways[result] = way
        return result


def _through(name: str, way: _Way, args: Any, kwargs: Any) -> _Way | None:
    """What the result of a call is, if a tensor's way goes through it."""
    if name == "dropout":
        return replace(way, read=False)
    if name != "batch_norm" or way.scale is not None or (way.linear and args[0].dim() != 2):
        return None
    given = _NORM.bind(*args, **kwargs).arguments
    if given.get("training") or given.get("running_var") is None:
        return None
    scale = (given["running_var"].double() + given.get("eps", 1e-5)).rsqrt()
    weight = given.get("weight")
    return _Way(way.number, way.linear, scale if weight is None else scale * weight.double())
