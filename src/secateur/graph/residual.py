"""Residual blocks: modules that give their input back when every branch that they add to it is zero.

Followed call by call: a tensor carries another if it is that tensor, seen through views, plus branches, and through
activations that leave it as it is (a ReLU, of what came from a ReLU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from .example import results
from .labels import Axis, Labels
from .record import Residual

_ADDS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


def joins(name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    """Whether a call adds two tensors of one shape, as residual connections do."""
    if name not in _ADDS or kwargs or len(args) != 2 or not all(isinstance(a, Tensor) for a in args):
        return False
    return bool(args[0].shape == args[1].shape and args[0].is_floating_point() and args[1].is_floating_point())


_SAME = {"view", "reshape", "flatten", "unsqueeze", "squeeze", "contiguous", "clone", "detach", "to", "dropout"}
_IDEMPOTENT = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_"}
_KEEPS = {"max_pool2d", "max_pool1d", "max_pool3d"}  # what an idempotent activation leaves alone, it leaves alone after


_Found = tuple[Residual, Tensor] | None  # a call of a residual block, and its result


@dataclass(eq=False)
class _Node:
    """What a tensor carries: of what, added by which call, as which operand; or seen through an activation."""

    number: int
    carries: list[tuple[_Node, _Step | None]] = field(default_factory=list)
    fixed: frozenset[Any] = frozenset()  # activations that leave it as it is


@dataclass(frozen=True)
class _Step:
    add: int = -1
    branch: int = -1  # operand that is not carried
    path: str = ""
    activation: Any = None


class Carriers:
    """Sees each call and each module of one forward."""

    def __init__(self) -> None:
        self._nodes: dict[int, _Node] = {}
        self._alive: list[Tensor] = []
        self._adds = 0
        self._count = 0
        self._entered: list[_Node | None] = []
        self._found: dict[str, list[_Found]] = {}

    def _node(self, tensor: Tensor) -> _Node:
        if id(tensor) not in self._nodes:
            self._set(tensor, [], frozenset())
        return self._nodes[id(tensor)]

    def _set(self, tensor: Tensor, carries: list[tuple[_Node, _Step | None]], fixed: frozenset[Any]) -> None:
        self._count += 1
        self._nodes[id(tensor)] = _Node(self._count, carries, fixed)
        self._alive.append(tensor)

    def called(self, path: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A function has run, as its author wrote it."""
        adds = joins(name, args, kwargs)
        self._adds += adds
        x = args[0] if args else None
        if not isinstance(result, Tensor) or not isinstance(x, Tensor):
            for tensor in results(result):
                self._set(tensor, [], frozenset())
            return
        carries: list[tuple[_Node, _Step | None]] = []
        fixed: frozenset[Any] = frozenset()
        alike = result.dtype == x.dtype and result.numel() == x.numel()
        if adds:
            for i in (0, 1):
                if args[i].dtype == result.dtype:
                    carries.append((self._node(args[i]), _Step(self._adds - 1, 1 - i, path)))
        elif name in _SAME and alike:
            carries, fixed = [(self._node(x), None)], self._node(x).fixed
        elif name in _IDEMPOTENT:
            key = (name.rstrip("_"), tuple(a for a in args[1:3] if type(a) in (int, float)))
            carries, fixed = [(self._node(x), _Step(activation=key))], frozenset({key})
        elif name in _KEEPS:
            fixed = self._node(x).fixed
        self._set(result, carries, fixed)

    def enter(self, args: Any) -> None:
        """A module is called."""
        first = args[0] if isinstance(args, tuple) and args else None
        self._entered.append(self._node(first) if isinstance(first, Tensor) else None)

    def leave(self, path: str | None, args: Any, kwargs: Any, output: Any) -> None:
        """It has run. `path` is None for a module that is not part of the model."""
        entered = self._entered.pop()
        if path:
            self._found.setdefault(path, []).append(self._residual(path, entered, args, kwargs, output))

    def broke(self) -> None:
        """It has raised."""
        self._entered.pop()

    def _residual(self, path: str, entered: _Node | None, args: Any, kwargs: Any, output: Any) -> _Found:
        rest = output[1:] if isinstance(output, tuple) else ()
        first = output[0] if isinstance(output, tuple) and output else output
        if entered is None or not isinstance(first, Tensor) or any(r is not None for r in rest):
            return None
        if first.shape != args[0].shape or first.dtype != args[0].dtype:
            return None
        ways = list(_ways(self._node(first), entered))
        if len(ways) != 1:
            return None
        steps = [s for s in ways[0] if s is not None]
        if not all(s.activation in entered.fixed for s in steps if s.activation is not None):
            return None
        joins = tuple((s.add, s.branch) for s in steps if s.add >= 0)
        if not any(s.path == path for s in steps if s.add >= 0):
            return None  # nothing is added here, but in a block inside
        form = "tuple" if isinstance(output, tuple) else "tensor"
        return Residual(path, joins, len(rest) if form == "tuple" else -1, len(args) == 1 and not kwargs), first

    def residuals(self, labels: Labels, axes: Callable[[Tensor], tuple[Axis, ...]]) -> tuple[Residual, ...]:
        """The outermost residual blocks, in the order they first ran, each with a label of its own."""
        found: list[Residual] = []
        for path, calls in self._found.items():
            blocks = [c for c in calls if c is not None]
            if len(blocks) == len(calls):
                each = [block for block, _ in blocks]
                joins, alone = tuple(j for b in each for j in b.joins), all(b.alone for b in each)
                given = tuple(axes(result) for _, result in blocks)
                found.append(Residual(path, joins, each[0].rest, alone, given=given))
        outer = [r for r in found if not any(r.path.startswith(f"{o.path}.") for o in found)]
        return tuple(replace(r, axis=labels.fresh(1)) for r in outer)


def _ways(node: _Node, target: _Node) -> Iterator[list[_Step | None]]:
    """All ways by which a tensor carries another; only what is younger can."""
    if node is target:
        yield []
    elif node.number > target.number:
        for parent, step in node.carries:
            for way in _ways(parent, target):
                yield [*way, step]
