"""Lives: from which op to which the memory of each activation is of use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from .labels import Axis
from .record import Storage


class Lives:
    """Sees every op of one forward, and whose memory it reads and makes."""

    def __init__(self) -> None:
        self._now = 0
        self._ignored: set[int] = set()  # of parameters and buffers
        # Storage -> a tensor of it, held so that no address is used twice, and the op that made it.
        self._born: dict[int, tuple[Tensor, int]] = {}
        self._last: dict[int, int] = {}

    def ignore(self, tensor: Tensor) -> None:
        """A parameter or buffer, whose memory is there anyway."""
        self._ignored.add(_storage(tensor))

    def ran(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """An op has run."""
        self._now += 1
        for tensor in inputs:
            key = _storage(tensor)
            if key not in self._born and key not in self._ignored:  # an input of the model
                self._born[key] = (tensor, 0)
            self._last[key] = self._now
        for tensor in outputs:
            key = _storage(tensor)
            if key not in self._born and key not in self._ignored:
                self._born[key] = (tensor, self._now)
            self._last[key] = self._now

    def storages(self, outputs: Iterable[Tensor], axes: Callable[[Tensor], tuple[Axis, ...]]) -> tuple[Storage, ...]:
        """All of them, now that all labels are known; those of the model's outputs last to the end."""
        for tensor in outputs:
            self._last[_storage(tensor)] = self._now
        return tuple(
            Storage(axes(tensor), tensor.element_size(), born, self._last[key])
            for key, (tensor, born) in self._born.items()
        )


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
