"""Python ints that remember where they came from, so that a cut can rewrite the attribute behind a shape.

While a model is traced, every int attribute of its modules is a `Traced` int; sizes read from tensors are, too. An
int that arrives at a view, a pad or `groups=` then says: attribute `shortcut.before`, or axis 1 of that tensor, or an
expression of both. A plain int says nothing, and the axis it decides is frozen.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from .labels import Axis


@dataclass(frozen=True)
class Attribute:
    """An int attribute of a module of the model."""

    path: str
    name: str


@dataclass(frozen=True, eq=False)
class Size:
    """The length of a tensor axis, given by its labels."""

    axis: Axis


@dataclass(frozen=True)
class Apply:
    """An arithmetic expression over other sources."""

    op: str
    args: tuple[Any, ...]


Source = Attribute | Size | Apply | int
_OPS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
}


class Traced(int):
    """An int with a source; arithmetic carries the source along."""

    source: Source

    def __new__(cls, value: int, source: Source) -> Traced:
        """The int `value`, which came from `source`."""
        self = super().__new__(cls, value)
        self.source = source
        return self

    def __deepcopy__(self, memo: Any) -> Traced:
        return self

    def __reduce__(self) -> Any:
        return int, (int(self),)  # a copy made by the model's own forward forgets the source, and so is frozen


def source_of(value: int) -> Source:
    """Where an int came from; a plain int is its own source."""
    return value.source if isinstance(value, Traced) else int(value)


def _binary(op: str, reverse: bool) -> Callable[[Traced, Any], Any]:
    def method(self: Traced, other: Any) -> Any:
        if isinstance(other, bool) or not isinstance(other, int):
            return getattr(int, f"__{'r' if reverse else ''}{op}__")(self, other)
        a, b = (other, self) if reverse else (self, other)
        return Traced(_OPS[op](int(a), int(b)), Apply(op, (source_of(a), source_of(b))))

    return method


for _op in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(Traced, f"__{_op}__", _binary(_op, reverse=False))
    setattr(Traced, f"__r{_op}__", _binary(_op, reverse=True))


def attributes_in(source: Source) -> set[Attribute]:
    """The module attributes that an expression reads."""
    if isinstance(source, Attribute):
        return {source}
    if isinstance(source, Apply):
        return set().union(*(attributes_in(a) for a in source.args))
    return set()


def has_size(source: Source) -> bool:
    """Whether an expression reads a tensor's size, and so adapts by itself."""
    return isinstance(source, Size) or (isinstance(source, Apply) and any(has_size(a) for a in source.args))


def evaluate(source: Source, attributes: dict[Attribute, int], kept: Callable[[Axis], int]) -> int:
    """The value of an expression once axes have shrunk: `kept(axis)` counts the indices left."""
    if isinstance(source, Attribute):
        return attributes[source]
    if isinstance(source, Size):
        return kept(source.axis)
    if isinstance(source, Apply):
        return int(_OPS[source.op](*(evaluate(a, attributes, kept) for a in source.args)))
    return source


@contextmanager
def traced_attributes(model: nn.Module) -> Iterator[dict[Attribute, int]]:
    """Swap the int attributes of every module for traced ones, and put the very same objects back after."""
    undo: list[tuple[nn.Module, str, int]] = []
    values: dict[Attribute, int] = {}
    for path, module in model.named_modules():
        for name, value in list(vars(module).items()):
            if type(value) is int and not name.startswith("_"):
                undo.append((module, name, value))
                values[Attribute(path, name)] = value
                module.__dict__[name] = Traced(value, Attribute(path, name))
    try:
        yield values
    finally:
        for module, name, value in undo:
            if isinstance(module.__dict__.get(name), Traced):
                module.__dict__[name] = value
