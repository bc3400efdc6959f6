"""Python ints that remember where they came from, so that a cut can rewrite the attribute behind a shape.

While a model is traced, every int that its modules hold (as an attribute, in a tuple, in a config object) is a
`Traced` int; sizes read from tensors are, too. An int that arrives at a view, a pad or `groups=` then says: attribute
`shortcut.before`, or axis 1 of that tensor, or an expression of both. A plain int says nothing, and the axis it
decides is frozen.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .labels import Axis


@dataclass(frozen=True)
class Attribute:
    """An int that a module of the model holds."""

    path: str  # of the module
    name: str  # of its attribute; of an object it holds: "config.num_heads"
    position: int | None = None  # in a tuple or list

    def __str__(self) -> str:
        at = "" if self.position is None else f"[{self.position}]"
        return f"{self.path}.{self.name}{at}".lstrip(".")


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


class Watch:
    """What is told when a traced int is compared, or leaves the integers, where it can no longer be followed."""

    def equal(self, a: Source, b: Source) -> None:
        """The forward asked whether two ints are equal, and they are."""

    def escaped(self, value: Traced) -> None:
        """The forward made a float of an int."""


_watch: list[Watch] = []


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

    def __neg__(self) -> Traced:
        return Traced(-int(self), Apply("neg", (self.source,)))

    def __eq__(self, other: object) -> bool:
        same = int(self) == other
        if same and isinstance(other, Traced) and _watch:
            _watch[-1].equal(self.source, other.source)
        return same

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(int(self))

    def __float__(self) -> float:
        if _watch:
            _watch[-1].escaped(self)
        return float(int(self))


def source_of(value: int) -> Source:
    """Where an int came from; a plain int is its own source."""
    return value.source if isinstance(value, Traced) else int(value)


def _binary(op: str, reverse: bool) -> Callable[[Traced, Any], Any]:
    def method(self: Traced, other: Any) -> Any:
        if isinstance(other, float):
            return getattr(float(self), f"__{'r' if reverse else ''}{op}__")(other)
        if isinstance(other, bool) or not isinstance(other, int):
            return getattr(int, f"__{'r' if reverse else ''}{op}__")(self, other)
        a, b = (other, self) if reverse else (self, other)
        return Traced(_OPS[op](int(a), int(b)), Apply(op, (source_of(a), source_of(b))))

    return method


def _escaping(op: str) -> Callable[..., Any]:
    def method(self: Traced, *others: Any) -> Any:
        float(self)
        return getattr(int, op)(int(self), *others)

    return method


for _op in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(Traced, f"__{_op}__", _binary(_op, reverse=False))
    setattr(Traced, f"__r{_op}__", _binary(_op, reverse=True))
for _op in ("__truediv__", "__rtruediv__", "__pow__", "__rpow__", "__divmod__", "__lshift__", "__rshift__"):
    setattr(Traced, _op, _escaping(_op))


def attributes_in(source: Source) -> set[Attribute]:
    """The module attributes that an expression reads."""
    if isinstance(source, Attribute):
        return {source}
    if isinstance(source, Apply):
        return set().union(*(attributes_in(a) for a in source.args))
    return set()


def axes_in(source: Source) -> list[Axis]:
    """The tensor axes whose length an expression reads."""
    if isinstance(source, Size):
        return [source.axis]
    if isinstance(source, Apply):
        return [axis for a in source.args for axis in axes_in(a)]
    return []


def evaluate(source: Source, attributes: dict[Attribute, int], kept: Callable[[Axis], int]) -> int:
    """The value of an expression once axes have shrunk: `kept(axis)` counts the indices left."""
    if isinstance(source, Attribute):
        return attributes[source]
    if isinstance(source, Size):
        return kept(source.axis)
    if isinstance(source, Apply):
        try:
            return int(_OPS[source.op](*(evaluate(a, attributes, kept) for a in source.args)))
        except ZeroDivisionError:
            return -1
    return source


def is_settings(value: Any) -> bool:
    """Whether an attribute of a module is an object of settings, such as a config."""
    foreign = (nn.Module, torch.Tensor, torch.device, torch.dtype, type, ModuleType, dict, list, tuple, set, str)
    return hasattr(value, "__dict__") and not isinstance(value, foreign) and not callable(value)


def holders(model: nn.Module) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(module path, prefix of names, attributes) of each module and of each settings object that a module holds."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        yield path, "", vars(module)
        for name, value in list(vars(module).items()):
            if not name.startswith("_") and id(value) not in seen and is_settings(value):
                seen.add(id(value))
                yield path, f"{name}.", vars(value)


@contextmanager
def traced_attributes(model: nn.Module, watch: Watch) -> Iterator[dict[Attribute, int]]:
    """Swap the ints that modules hold for traced ones, and put the very same objects back after."""
    undo: list[tuple[dict[str, Any], str, Any, Any]] = []
    values: dict[Attribute, int] = {}

    def traced(value: Any, attribute: Attribute) -> Any:
        if type(value) is int:
            values[attribute] = value
            return Traced(value, attribute)
        if type(value) in (tuple, list) and value and all(type(v) is int for v in value):
            each = [traced(v, Attribute(attribute.path, attribute.name, i)) for i, v in enumerate(value)]
            return type(value)(each)
        return value

    for path, prefix, held in holders(model):
        for name, value in list(held.items()):
            swapped = traced(value, Attribute(path, prefix + name))
            if swapped is not value:
                undo.append((held, name, value, swapped))
                held[name] = swapped
    _watch.append(watch)
    try:
        yield values
    finally:
        _watch.pop()
        for held, name, value, swapped in undo:
            if held.get(name) is swapped or isinstance(held.get(name), Traced):
                held[name] = value


def assign(model: nn.Module, values: dict[Attribute, int]) -> None:
    """Write ints back to where they came from."""
    found = {(path, prefix): held for path, prefix, held in holders(model)}
    for attribute, value in values.items():
        owner, dot, name = attribute.name.rpartition(".")
        held = found[attribute.path, owner + dot]
        if attribute.position is None:
            held[name] = value
        else:
            items = list(held[name])
            items[attribute.position] = value
            held[name] = type(held[name])(items)
