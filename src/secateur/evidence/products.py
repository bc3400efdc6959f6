"""Products: what each linear layer and convolution multiplies its weight with, whether or not a group is cut there.

Calls are watched as their author wrote them, and a weight is known by its memory, so that a transposed view of a
parameter is that parameter. A weight that is computed, or of which a part is used, is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from ..graph.record import Geometry
from ..graph.trace import TRANSPARENT
from ..groups.graph import Graph
from .base import Collector, Sampling
from .sampling import windows

VALUES = 2**22  # of rows that are held at a time
FEW = 2**18  # values whose squares are added up in single precision
_FIRST = {"addmm": 1, "baddbmm": 1, "mm": 0, "bmm": 0, "matmul": 0, "__matmul__": 0, "__rmatmul__": 0}
_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}


@dataclass(frozen=True, eq=False)
class Product:
    """One product with a weight: each of its `groups` multiplies rows of d inputs with outputs of its own."""

    weight: str
    shape: tuple[int, ...]  # of the weight
    groups: int  # of a convolution, else 1
    axes: tuple[int, ...]  # of the weight that are summed over, d = their lengths multiplied
    x: Tensor  # (rows, d), or what a convolution reads, padded where the walk does not pad
    walk: Geometry | None  # of a convolution

    @property
    def count(self) -> int:
        """Rows."""
        return prod((len(self.x), *self._seen(self.x[:1]).shape[3 : 2 + len(self.axes)]))

    def rows(self) -> Iterator[Tensor]:
        """All rows in float64, some at a time: (groups, rows, d)."""
        seen = self._seen(self.x)
        space, depth = len(self.axes) - 1, prod(self.shape[a] for a in self.axes)
        step = max(1, VALUES * len(seen) // max(seen.numel(), 1))
        for part in seen.split(step):
            yield part.movedim(2, 2 + space).movedim(1, 0).double().reshape(self.groups, -1, depth)

    def squares(self) -> Tensor:
        """(groups, d) float64: sums of squares over all rows, without laying the rows out.

        Those of a few examples are added up in the type of x, if that is no shorter than single precision.
        """
        # Over a few examples in their own type first, in memory that is used again and stays in the processor's cache.
        total = self.x.new_zeros(self.x.shape[1:], dtype=torch.float64)
        parts = self.x.split(max(1, FEW // max(total.numel(), 1)))
        scratch = torch.empty_like(parts[0], dtype=torch.promote_types(self.x.dtype, torch.float32))
        for part in parts:
            x = part.to(scratch.dtype)
            total += torch.mul(x, x, out=scratch[: len(part)]).sum(0)
        seen = self._seen(total[None])
        return seen.sum((0, *range(3, 2 + len(self.axes)))).flatten(1)

    def _seen(self, x: Tensor) -> Tensor:
        """(B, groups, I / groups, *space, *kernel), a view."""
        return (x if self.walk is None else windows(x, self.shape[2:], self.walk)).unflatten(1, (self.groups, -1))


def by_weight(values: Tensor, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    """(groups, d) -> of the weight's dimensions, of its length along `axes`, and of one along others.

    Where a convolution has groups, the first axis has all outputs.
    """
    if 0 in axes:
        return values.reshape(-1, *(1 for _ in shape[1:]))
    each = values.reshape(len(values), *shape[1:])
    return each if len(values) == 1 else each.repeat_interleave(shape[0] // len(values), 0)


class ByProduct(Collector):
    """A kind that sums something over the products of each weight: a subclass says what."""

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self.sums: dict[str, tuple[Product, Tensor, int]] = {}  # weight -> a product without its x, sum, rows

    def watching(self) -> AbstractContextManager[None]:
        """All products."""
        return AtProducts(self.graph.model, self._see, self.sampling.weights)

    def of(self, product: Product) -> Tensor:
        """What is summed, float64."""
        raise NotImplementedError(f"{type(self).__name__} does not define of(product)")

    def _see(self, product: Product) -> None:
        name = product.weight
        if name in self.missing:
            return
        total, count = self.of(product), product.count
        if name in self.sums:
            before, so_far, counted = self.sums[name]
            if (before.axes, before.groups) != (product.axes, product.groups):
                del self.sums[name]
                self.missing[name] = "it is used both as it is and transposed, or as parts of several numbers"
                return
            total, count = so_far.add_(total), counted + count
        self.sums[name] = replace(product, x=product.x[:0].clone()), total, count  # a view would hold all of x


class AtProducts(TorchFunctionMode):
    """Meanwhile, `see(product)` for each product with one of the model's weights, before it is taken."""

    def __init__(self, model: nn.Module, see: Callable[[Product], None], only: Collection[str] | None = None) -> None:
        super().__init__()
        self._see = see
        names = ((n, p) for n, p in model.named_parameters() if p.dim() > 1 and (only is None or n in only))
        self._held = {p.data_ptr(): (n, p.shape, p.stride()) for n, p in names if p.numel() and not p.is_meta}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in TRANSPARENT:
            with self:
                return TRANSPARENT[func](*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "linear" or name in _CONVOLUTIONS or name in _FIRST:
            # Others count the products that run, and watch calls.
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                product = self._product(name, args, kwargs)
                if product is not None:
                    self._see(product)
        return func(*args, **kwargs)

    def _product(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Product | None:
        if name == "linear":
            x, weight = _arguments(("input", "weight"), args, kwargs)
            return self._linear(x, weight, -1)
        if name in _CONVOLUTIONS:
            return self._convolution(_CONVOLUTIONS[name], args, kwargs)
        if name not in _FIRST or len(args) < _FIRST[name] + 2:
            return None
        a, b = args[_FIRST[name] :][:2]
        if name == "__rmatmul__":
            a, b = b, a
        found = self._linear(a, b, -2)
        return found or (self._linear(b.mT, a, -1) if isinstance(b, Tensor) and b.dim() > 1 else None)

    def _linear(self, x: Any, weight: Any, axis: int) -> Product | None:
        """`x` (..., d) meets `weight`, which is a parameter or the transpose of one, along `axis`."""
        if not isinstance(x, Tensor) or not isinstance(weight, Tensor) or weight.dim() != 2 or x.dim() == 0:
            return None
        known = self._held.get(weight.data_ptr())
        if known is None:
            return None
        name, shape, stride = known
        if (weight.shape, weight.stride()) == (shape, stride):
            at = axis % 2
        elif (weight.shape, weight.stride()) == (shape[::-1], stride[::-1]):
            at = 1 - axis % 2
        else:
            return None
        return Product(name, tuple(shape), 1, (at,), x.detach().reshape(-1, x.shape[-1]), None)

    def _convolution(self, space: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Product | None:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        x, weight, _, stride, padding, dilation, groups = _arguments(names, args, kwargs)
        known = self._held.get(weight.data_ptr()) if isinstance(weight, Tensor) else None
        if known is None or weight.shape != known[1] or not isinstance(x, Tensor):
            return None
        x, groups, shape = x.detach(), int(groups or 1), tuple(weight.shape)
        if x.dim() == space + 1:
            x = x[None]
        dilation = _each(dilation, 1, space)
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, shape[2:], strict=True)]
            x = nn.functional.pad(x, [p for t in reversed(total) for p in (t // 2, t - t // 2)])
        walk = Geometry(_each(stride, 1, space), _each(0 if isinstance(padding, str) else padding, 0, space), dilation)
        return Product(known[0], shape, groups, tuple(range(1, len(shape))), x, walk)


def _arguments(names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


def _each(value: Any, otherwise: int, space: int) -> tuple[int, ...]:
    """One int for each spatial axis."""
    value = otherwise if value is None else value
    each = tuple(map(int, value)) if isinstance(value, (tuple, list)) else (int(value),)
    return each * space if len(each) == 1 else each
