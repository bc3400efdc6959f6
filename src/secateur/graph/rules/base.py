"""The registry of rules, and the two rules that need no op name: element-wise by tag, and unknown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..labels import Axis, frozen_axis
from ..record import STREAM
from ..tracer import Tracer


@dataclass(frozen=True)
class Call:
    """One ATen op as it ran."""

    op: Any  # torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def name(self) -> str:
        """Such as `aten.add.Tensor`."""
        return str(self.op)

    @property
    def packet(self) -> str:
        """Such as `aten.add`."""
        return self.name.rpartition(".")[0]

    @property
    def writes(self) -> bool:
        """Whether the op writes into a tensor that was there before."""
        return bool(self.op._schema.is_mutable)

    @property
    def record(self) -> tuple[str, tuple[Any, ...], list[Tensor]]:
        """Name, arguments and outputs, as `Tracer.reduce` takes them."""
        return self.name, self.args, self.outputs


Rule = Callable[[Tracer, Call], None]
RULES: dict[str, Rule] = {}
NUMBERED: set[str] = set()  # ops whose rules ask for themselves which tensors hold numbers of indices

# Functions seen whole, before they fall apart into ops: rule(tracer, *args, **kwargs) -> result.
FUNCTIONS: dict[str, Callable[..., Any]] = {}

# Functions whose ints are read before they fall apart into ops: rule(tracer, *args, **kwargs).
STATED: dict[str, Callable[..., None]] = {}


def rule(*ops: str, numbers: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for ATen ops, by name without overload (`aten.add`) or with (`aten.mean.dim`).

    `numbers`: the rule says what becomes of numbers of indices (see rules/numbers.py).
    """

    def enter(function: Rule) -> Rule:
        NUMBERED.update(ops if numbers else ())
        for op in ops:
            assert op not in RULES, op
            RULES[op] = function
        return function

    return enter


def function(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a rule for functions as authors call them (`lstm`)."""

    def enter(whole: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            assert name not in FUNCTIONS, name
            FUNCTIONS[name] = whole
        return whole

    return enter


def lookup(op: Any) -> Rule:
    """The rule for an op: by full name, by packet name, by the element-wise tag, or the one that freezes."""
    name = str(op)
    found = RULES.get(name) or RULES.get(name.rpartition(".")[0])
    if found:
        return found
    return pointwise if torch.Tag.pointwise in op.tags else unknown


def pointwise(tracer: Tracer, call: Call) -> None:
    """Element-wise ops: axes are aligned from the right, and indices that meet are the same."""
    adds = call.name.startswith("aten.add") and not any(tracer.is_static(t) for t in call.inputs)
    for output in call.outputs:
        axes: dict[int, Axis] = {}
        for tensor in call.inputs:
            for i, axis in enumerate(tracer.axes(tensor), start=output.dim() - tensor.dim()):
                if axis.size != output.shape[i]:
                    tracer.freeze(axis, "a single index broadcast over many")
                elif i not in axes:
                    axes[i] = axis
                elif axis.size > 1:  # an axis of one index can never be cut, so it binds nothing
                    if adds and axis is not axes[i]:
                        tracer.mark(axis, STREAM)
                    axes[i] = tracer.unify(axes[i], axis)
        tracer.set(output, tuple(axes[i] if i in axes else frozen_axis(n) for i, n in enumerate(output.shape)))


def unknown(tracer: Tracer, call: Call) -> None:
    """No rule: every axis that touches the op must stay."""
    freeze_all(tracer, call, f"there is no rule for {call.name}")


def freeze_all(tracer: Tracer, call: Call, reason: str) -> None:
    """Every axis of every input must stay."""
    for tensor in call.inputs:
        for axis in tracer.axes(tensor):
            tracer.freeze(axis, reason)
    for tensor in call.outputs:
        tracer.set(tensor, tuple(frozen_axis(n) for n in tensor.shape))
