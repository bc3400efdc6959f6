"""Float64 execution: run a model as it is, with every op computed in float64 and no copy of its weights.

A weight is brought to float64 where an op reads it and forgotten after; so two models can be compared exactly in little
more memory than they take themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..graph.example import map_tensors
from ..graph.rules import FUNCTIONS

_WIDER = {torch.complex32: torch.complex128, torch.complex64: torch.complex128} | dict.fromkeys(
    (torch.float16, torch.bfloat16, torch.float32), torch.float64
)
# These check that all their arguments are of one type before any op runs.
_CHECKED = {
    *FUNCTIONS,
    "prelu",
    "bilinear",
    "rms_norm",
    "tensordot",
    "inner",
    "multi_dot",
    "linalg_multi_dot",
    *(f"conv{way}{n}d" for way in ("", "_transpose") for n in (1, 2, 3)),
}
COLUMNS = 2**18  # numbers of a matrix that are brought to float64 at a time
# These only move numbers; what they give is widened, not the whole table that they read.
_GATHERS = {"aten.embedding", "aten.index", "aten._unsafe_index", "aten.index_select", "aten.gather"}


def wider(tree: Any) -> Any:
    """Floating and complex tensors, and their types, in double precision; all else as it is."""
    if isinstance(tree, torch.dtype):
        return _WIDER.get(tree, tree)
    if isinstance(tree, dict):
        return {k: wider(v) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)([wider(v) for v in tree]) if type(tree) in (tuple, list) else tree
    return tree.to(_WIDER[tree.dtype]) if isinstance(tree, Tensor) and tree.dtype in _WIDER else tree


class _Ops(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        aliases = [a.alias_info for a in func._schema.arguments if a.alias_info is not None]
        if func._schema.is_mutable:
            return func(*_beside(args), **kwargs)
        if aliases:  # a view: its numbers are read by somebody else
            return func(*args, **kwargs)
        if str(func).rpartition(".")[0] in _GATHERS:
            return wider(func(*args, **kwargs))
        if str(func) in ("aten.mm.default", "aten.addmm.default") and _is_large(args[-1]):
            return _by_columns(func, args)
        return func(*wider(args), **wider(kwargs))


def _is_large(weight: Tensor) -> bool:
    return weight.dtype in _WIDER and weight.numel() > COLUMNS


def _by_columns(func: Any, args: Any) -> Tensor:
    """A product with a large matrix, some of its columns at a time, so that it is never whole in float64."""
    *bias, x, weight = args
    step = max(1, COLUMNS // weight.shape[0])
    made = []
    for at in (slice(a, a + step) for a in range(0, weight.shape[1], step)):
        own = [b[..., at] if b.shape[-1] > 1 else b for b in bias]
        made.append(func(*wider(own), wider(x), wider(weight[:, at])))
    return torch.cat(made, dim=1)


def _beside(args: Any) -> Any:
    """What is written into a tensor takes that tensor's type."""
    first = args[0] if args and isinstance(args[0], Tensor) else None
    if first is None or not (first.is_floating_point() or first.is_complex()):
        return args
    return (first, *map_tensors(args[1:], lambda t: t.to(first.dtype) if t.is_floating_point() else t))


class _Functions(TorchFunctionMode):
    """Brings the arguments of a few functions to one type."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _CHECKED:
            args, kwargs = wider(args), wider(kwargs)
        if getattr(func, "__name__", "") in ("_grouped_mm", "grouped_mm"):
            return _grouped_product(*args, **kwargs)
        return func(*args, **kwargs)


def _grouped_product(
    x: Tensor, weight: Tensor, offs: Tensor | None = None, bias: Tensor | None = None, **_: Any
) -> Tensor:
    """(rows, K) with (experts, K, N), rows sorted by expert and ending at `offs`; torch has it in few types only."""
    ends = [0, *(offs.tolist() if offs is not None else ())]
    parts = [x[a:b] @ w for a, b, w in zip(ends, ends[1:], weight, strict=False)]
    rest = x.new_zeros(x.shape[0] - ends[-1], weight.shape[-1])
    y = torch.cat([*parts, rest])
    return y if bias is None else y + bias


class InFloat64:
    """A context in which every op that `model` runs computes in float64."""

    def __init__(self, model: nn.Module) -> None:
        # Recurrent modules compare types themselves, before any op; they read their weights from this list.
        self._recurrent = [(m, m._flat_weights) for m in model.modules() if isinstance(m, nn.RNNBase)]

    def __enter__(self) -> InFloat64:
        for module, weights in self._recurrent:
            module.__dict__["_flat_weights"] = [None if w is None else w.detach().double() for w in weights]
        self._modes = (_Functions(), _Ops())
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        for module, weights in self._recurrent:
            module.__dict__["_flat_weights"] = weights
