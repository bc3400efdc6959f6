"""Ranks of feature maps, each a matrix of rows and columns, of the first examples only: a decomposition each is slow.

A convolution reads maps as they are. Behind pooling or flattening it is the map that was pooled or flattened that
counts, which is found by watching those calls.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import NeedsData
from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector
from .readers import Read, Reader

CHUNK = 2**20  # values that are decomposed at a time
SPACE = ({2, 3}, {-2, -1})
_SHAPES = {"flatten", "reshape", "view", "squeeze", "dropout"}
_POOLS = {f"{kind}{of}_pool2d" for kind in ("", "adaptive_") for of in ("avg", "max")}
_REDUCTIONS = {"mean", "amax", "sum"}


@collector("ranks")
class Ranks(Collector):
    """Of each group and each layer that reads maps of it, (readers, units): `ranks`, the sum over examples of the rank
    of a map, averaged over the maps that a unit holds; `count` (readers,) of examples, at most `Sampling.images`.
    """

    reads = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums: dict[int, tuple[Reader, Tensor, int]] = {}  # number of the reader -> (channels,), examples
        self._pooled = _Pooled()

    def watching(self) -> AbstractContextManager[Any]:
        """Pooling and flattening."""
        return self._pooled

    def read(self, read: Read) -> None:
        """One more."""
        maps = self._maps(read)
        if maps is None:
            return
        number = read.reader.contraction.number
        _, held, count = self._sums.get(number, (read.reader, torch.zeros(maps.shape[1], dtype=torch.float64), 0))
        taken = maps[: max(0, self.sampling.images - count)]
        if not torch.isfinite(taken).all():
            raise NeedsData(f"batch {read.batch} gives feature maps of NaN or infinity, which have no rank")
        self._sums[number] = read.reader, held + ranks(taken).sum(0), count + len(taken)

    def _maps(self, read: Read) -> Tensor | None:
        x = read.x
        if not x.is_floating_point() or not x.numel():
            return None
        maps = None if _has_space(x) else self._pooled.source(x)
        if maps is None and x.dim() == 4:
            maps = x
        return maps if maps is not None and read.axis == 1 and x.shape[1] % maps.shape[1] == 0 else None

    def values(self) -> dict[str, Fields]:
        """By group."""
        found: dict[str, list[tuple[Tensor, int]]] = {}
        for _, (reader, sums, count) in sorted(self._sums.items()):
            for name in reader.groups:
                channels = _channels(reader.groups[name], reader.contraction.labels.size // len(sums))
                if channels is not None:
                    found.setdefault(name, []).append((sums[channels].mean(1), count))
        for group in self.graph.groups:
            if group.name not in found:
                self.missing[group.name] = (
                    'no layer reads feature maps of it (kinds=("channel",) leaves out what has none)'
                )
        return {
            name: {"ranks": torch.stack([r for r, _ in each]), "count": torch.tensor([c for _, c in each])}
            for name, each in found.items()
        }


class _Pooled(TorchFunctionMode):
    """Remembers the last tensor that was pooled or flattened from feature maps, and the maps."""

    def __init__(self) -> None:
        super().__init__()
        self._result: Tensor | None = None
        self._maps: Tensor | None = None

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._result = self._maps = None

    def source(self, x: Tensor) -> Tensor | None:
        """The maps that this was made from."""
        held = self._result
        if held is None or held.data_ptr() != x.data_ptr() or (len(held), held.numel()) != (len(x), x.numel()):
            return None
        return self._maps

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        x = args[0] if args else None
        if not isinstance(x, Tensor) or not isinstance(result, Tensor):
            return result
        name = getattr(func, "__name__", "")
        if name in _SHAPES | _POOLS or (name in _REDUCTIONS and _over_space(*args[1:2], **(kwargs or {}))):
            maps = x if x.dim() == 4 and (_has_space(x) or self.source(x) is None) else self.source(x)
            if maps is not None and result.dim() > 1:
                self._result, self._maps = result.detach(), maps.detach()
        return result


def _has_space(x: Tensor) -> bool:
    return x.dim() == 4 and x.shape[2] * x.shape[3] > 1


def _over_space(dim: Any = None, *_: Any, **__: Any) -> bool:
    return isinstance(dim, (tuple, list)) and set(dim) in SPACE


def _channels(index: Tensor, times: int) -> Tensor | None:
    """(units, m / times) channels of positions (units, m), where `times` positions in a row are one channel."""
    held = index.sort(1).values // times
    if held.shape[1] % times:
        return None
    each = held.unflatten(1, (-1, times))
    return each[:, :, 0] if bool((each == each[:, :, :1]).all()) else None


def ranks(maps: Tensor) -> Tensor:
    """(examples, channels) float64: of (examples, channels, rows, columns), to the precision of their type."""
    if not len(maps):
        return torch.zeros(maps.shape[:2], dtype=torch.float64)
    precision = max(maps.shape[2:]) * torch.finfo(maps.dtype).eps
    step = max(1, CHUNK // max(maps[0].numel(), 1))
    found = [torch.linalg.matrix_rank(part.double(), rtol=precision) for part in maps.split(step)]
    return torch.cat(found).to("cpu", torch.float64)
