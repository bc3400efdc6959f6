"""Replay: run a model again and meet the multiply-and-sum ops of its trace one by one, in the same order.

A forward that takes another path than when it was traced is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import VerificationError
from .labels import Axis
from .record import Contraction, Reduction, Trace
from .residual import joins
from .rules import FUNCTIONS
from .trace import TRANSPARENT

Change = Callable[[Contraction, Tensor], Tensor]
Reduce = Callable[[Reduction, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
Zero = Callable[[Axis, int, Tensor], Tensor]
_PACKETS = {"aten.convolution", "aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm"}


class _Whole(TorchFunctionMode):
    """Functions that the trace saw whole are no place to look inside."""

    def __init__(self, ops: AtContractions) -> None:
        super().__init__()
        self.ops = ops

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in TRANSPARENT:
            with self:
                return TRANSPARENT[func](*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if joins(name, args, kwargs):
            args = self.ops.join(args)
        if name not in FUNCTIONS:
            return func(*args, **(kwargs or {}))
        with self.ops.paused():
            return func(*self.ops.read(name, args), **(kwargs or {}))


class AtContractions(TorchDispatchMode):
    """At each multiply-and-sum op `before(contraction, x)` on what it reads, `after(contraction, y)` on the result.

    `reduce(reduction, op, args, kwargs)` runs each op that the trace holds as a reduction. `gone`: branches that
    are not to be added, as (number of the call that adds, operand). `weights`: parameters by name; where torch runs a
    product with its factors exchanged, they tell which of them is read. Without, either may be handed to `before`.
    """

    def __init__(
        self,
        trace: Trace,
        before: Change,
        after: Change | None = None,
        reduce: Reduce | None = None,
        zero: Zero | None = None,
        gone: Collection[tuple[int, int]] = (),
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._gone, self._added = dict(gone), 0
        self._memory = {n: w.untyped_storage().data_ptr() for n, w in (weights or {}).items()}
        self._wholes, self._zero, self._called = trace.wholes, zero, 0
        self._contractions, self._reductions = trace.contractions, trace.reductions
        self._packets = {r.op for r in trace.reductions} if reduce else set()
        self._before, self._after, self._reduce = before, after, reduce
        self._functions: list[_Whole] = []
        self._paused = False
        self.met = self.reduced = 0

    def __enter__(self) -> Any:
        self._functions.append(_Whole(self))
        self._functions[-1].__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.pop().__exit__(*error)  # which knows this: kept, both would wait for the garbage collector

    def read(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a function seen whole reads, masked."""
        if self._called == len(self._wholes) or self._wholes[self._called].name != name:
            raise VerificationError(f"the forward took another path than when it was traced: it ran {name} out of turn")
        whole = self._wholes[self._called]
        self._called += 1
        held: Any = [list(a) if isinstance(a, (tuple, list)) else a for a in args]
        if self._zero is not None:
            for place, axis, labels in whole.reads:
                owner = held if len(place) == 1 else held[place[0]]
                owner[place[-1]] = self._zero(labels, axis, owner[place[-1]])
        return tuple(tuple(a) if isinstance(b, tuple) else a for a, b in zip(held, args, strict=True))

    def join(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a call that adds reads; a branch that is gone is zero, also where it would be added to in place."""
        branch = self._gone.get(self._added)
        self._added += 1
        if branch is None:
            return args
        if branch == 0:
            return (args[0].zero_(), *args[1:])
        return (args[0], torch.zeros_like(args[1]), *args[2:])

    @contextmanager
    def paused(self) -> Any:
        """Let ops run as they are."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(func)
        if self._paused:
            return func(*args, **kwargs)
        if name in self._packets and self._reduce is not None:
            return self._reduce(self._next(name), func, args, kwargs)
        if name.rpartition(".")[0] not in _PACKETS or self._unmasked(name, args):
            return func(*args, **kwargs)
        if self.met == len(self._contractions):
            raise VerificationError(f"the forward ran {func} once more than when it was traced")
        contraction = self._contractions[self.met]
        self.met += 1
        args = list(args)
        at, axis = _operand(name, contraction, args, self._memory.get(contraction.weight or ""))
        x = args[at]
        if not -x.dim() <= axis < x.dim() or x.shape[axis] != contraction.labels.size:
            raise VerificationError(
                f"the forward took another path than when it was traced: {func} at {contraction.path or 'the model'} "
                f"reads {tuple(x.shape)}, expected {contraction.labels.size} at axis {axis}"
            )
        axis %= x.dim()
        contraction = contraction if axis == contraction.axis else replace(contraction, axis=axis)
        args[at] = self._before(contraction, x)
        result = func(*args, **kwargs)
        return result if self._after is None else self._after(contraction, result)

    def _next(self, name: str) -> Reduction:
        """The record of the reduction that runs now; those of other ops are skipped by none."""
        if self.reduced == len(self._reductions) or self._reductions[self.reduced].op != name:
            raise VerificationError(f"the forward took another path than when it was traced: it ran {name} out of turn")
        self.reduced += 1
        return self._reductions[self.reduced - 1]

    def _unmasked(self, name: str, args: Any) -> bool:
        """A depthwise convolution sums over nothing, so it is no record."""
        if not name.startswith("aten.convolution"):
            return False
        weight, transposed, groups = args[1], args[6], args[8]
        return bool(groups > 1 and not transposed and weight.shape[1] == 1)


def _operand(name: str, contraction: Contraction, args: list[Any], weight: int | None) -> tuple[int, int]:
    """Which argument holds the activation, and its axis that is summed over.

    A product of matrices may run with or without its bias, and with its operands exchanged, as memory lies; that
    changes neither the axis nor its labels.
    """
    if "convolution" in name:
        return contraction.argument, contraction.axis
    had, has = ("add" in op for op in (contraction.op, name))
    second = contraction.argument - had
    x = args[has + second]
    if x.shape[-1 - second] != contraction.labels.size or x.untyped_storage().data_ptr() == weight:
        second = 1 - second
    return has + second, -1 - second
