"""Our own models by name: a decorator puts a factory and its input shape in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import nn

from secateur.errors import BadModel, UnknownName

Shape = tuple[int, int, int]


class Factory(Protocol):
    """Builds a fresh model; both arguments have a default."""

    def __call__(self, *, classes: int = ..., in_channels: int = ...) -> nn.Module:
        """A new model with random weights, in training mode."""


class Entry(NamedTuple):
    """A registered model: how to build it, and the (C, H, W) that it is meant for."""

    factory: Factory
    shape: Shape


_ENTRIES: dict[str, Entry] = {}


def model(name: str, *, shape: Shape = (3, 32, 32)) -> Callable[[Factory], Factory]:
    """Register a factory under `name`; `shape` is the (C, H, W) of one input.

    Raises BadModel for a name that is taken.
    """

    def register(factory: Factory) -> Factory:
        if name in _ENTRIES:
            raise BadModel(f"a model named {name!r} is registered already: choose another name.")
        _ENTRIES[name] = Entry(factory, shape)
        return factory

    return register


def models() -> dict[str, Factory]:
    """Every registered factory by name, in alphabetical order."""
    return {name: _ENTRIES[name].factory for name in sorted(_ENTRIES)}


def entry(name: str) -> Entry:
    """The registered entry. Raises UnknownName, which names the nearest."""
    if name not in _ENTRIES:
        raise UnknownName("model", name, _ENTRIES)
    return _ENTRIES[name]


def build(name: str, *, classes: int | None = None, in_channels: int | None = None) -> nn.Module:
    """A fresh model by name; an argument left out keeps the factory's own default.

    Raises UnknownName for a name that is not registered, BadModel for a count below one.
    """
    given = {"classes": classes, "in_channels": in_channels}
    counts = {key: count for key, count in given.items() if count is not None}
    for key, count in counts.items():
        if count < 1:
            raise BadModel(f"{key}={count} for {name!r}: a model needs at least 1.")
    return entry(name).factory(**counts)
