"""Pooling: how many zeros the maps held that layers read pooled.

Zeros are counted when the maps are pooled, so that no map is kept, and what was counted is moved about as what was
pooled is: flattened, squeezed, indexed. Any other call makes another tensor of it, of which nothing is known.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

_POOLS = {f"{kind}{of}_pool{n}d": n for kind in ("", "adaptive_") for of in ("avg", "max") for n in (1, 2, 3)}
_REDUCTIONS = {"mean", "amax", "sum"}
_MOVES = {"flatten", "reshape", "view", "squeeze", "unsqueeze", "permute", "transpose", "__getitem__"}
_SAME = {"dropout", "contiguous", "clone"}
_KNOWN = {*_POOLS, *_REDUCTIONS, *_MOVES, *_SAME}


@dataclass(frozen=True, eq=False)
class Maps:
    """What stood behind each entry of a pooled tensor, in its shape: zeros, the lowest value, how many `values`.

    Where windows overlap or leave some out, the zeros of a map are shared out evenly among what its pool gave.
    """

    zeros: Tensor
    lowest: Tensor
    values: float = 1.0


class Pooling(TorchFunctionMode):
    """Remembers what stood behind each pooled tensor, as long as that lives."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[weakref.ref[Tensor], int, Maps]] = {}  # by address; with its version

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.forget()

    def forget(self) -> None:
        """All of them."""
        self._made.clear()

    def behind(self, x: Tensor) -> Maps | None:
        """What stood behind this tensor; None if it was not pooled, or something else has become of it."""
        ref, version, maps = self._made.get(x.data_ptr(), (None, 0, None))
        made = None if ref is None else ref()
        if made is None or made._version != version or _layout(made) != _layout(x):
            return None
        return maps

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        x = args[0] if args else None
        if name in _KNOWN and isinstance(x, Tensor) and isinstance(result, Tensor) and x.is_floating_point():
            with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():  # no part of the model
                maps = self._of(func, name, x.detach(), args[1:], kwargs, result) if result.numel() else None
                if maps is not None:
                    self._made[result.data_ptr()] = weakref.ref(result), result._version, maps
        return result

    def _of(self, func: Any, name: str, x: Tensor, args: Any, kwargs: Any, result: Tensor) -> Maps | None:
        before = self.behind(x)
        if name in _POOLS:
            return _reduced(x, before, tuple(range(-_POOLS[name], 0)), result)
        if name in _REDUCTIONS:
            over = args[0] if args else kwargs.get("dim")
            return _reduced(x, before, over, result) if isinstance(over, (int, tuple, list)) and over != () else None
        if before is None or name in _SAME:
            return before
        zeros, lowest = (func(t, *args, **kwargs) for t in (before.zeros, before.lowest))
        return Maps(zeros, lowest, before.values) if zeros.shape == result.shape else None


def _layout(x: Tensor) -> tuple[Any, ...]:
    """Where entries lie; the stride of an axis of one index is anything."""
    return x.device, tuple(x.shape), [s for n, s in zip(x.shape, x.stride(), strict=True) if n > 1]


def _reduced(x: Tensor, before: Maps | None, over: Any, result: Tensor) -> Maps | None:
    """Of what was pooled over these axes of x, or of what stood behind x."""
    if before is None:
        zeros, lowest, values = _zeros(x, over), x.amin(over, keepdim=True), 1.0
    else:
        zeros, lowest = before.zeros.sum(over, keepdim=True), before.lowest.amin(over, keepdim=True)
        values = before.values
    share = result.numel() / zeros.numel()  # more than one where a pool leaves rows and columns
    if result.dim() != zeros.dim():  # of a reduction that drops its axes
        if share != 1:
            return None
        zeros, lowest = zeros.reshape(result.shape), lowest.reshape(result.shape)
    zeros, lowest = (zeros / share).expand(result.shape), lowest.expand(result.shape)
    return Maps(zeros, lowest, values * x.numel() / result.numel())


def _zeros(x: Tensor, over: Any) -> Tensor:
    """How many there are over some axes, which are kept; many times as fast as comparing with zero."""
    signs = x.sign() if x.min() >= 0 else x.abs().sign_()
    if signs.dtype.itemsize < 4:
        signs = signs.float()  # half precision does not count far
    nonzero = signs.sum(over, keepdim=True).double()
    return x.numel() / nonzero.numel() - nonzero
