"""Uses: weights that layers read along the axis that they write, as where a table of words is the output layer, too.

The gradient of such a weight is the sum over all its uses, but a gate stands on what is written. So calls that write
are handed an alias of the weight, whose gradient is that of writing alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..groups.graph import Graph

Use = tuple[str, int]  # parameter and the axis that is written
# Function -> where the weight stands among its arguments, and the axis of it that is written.
_WRITES = {"embedding": (1, 1), "linear": (1, 0), **dict.fromkeys(("matmul", "__matmul__", "mm"), (1, 1))}
_WRITES |= {"embedding_bag": (1, 1), "addmm": (2, 1)}


def key(use: Use) -> str:
    """By which the gradient of a use goes among those of parameters."""
    return f"{use[0]} as it writes axis {use[1]}"


class Uses(TorchFunctionMode):
    """While active, collects the gradients of these uses; `lost`: those met more or less often than in the trace."""

    def __init__(self, graph: Graph, wanted: Iterable[Use]) -> None:
        super().__init__()
        self.wanted = sorted(set(wanted))
        self.lost: set[Use] = set()
        self._aliases: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor | None] = dict.fromkeys(map(key, self.wanted))
        self._weights = {use: graph.model.get_parameter(use[0]) for use in self.wanted}
        self._traced = Counter((w.weight, w.weight_axis) for w in graph.trace.writers if not w.viewed)
        self._met: Counter[Use] = Counter()

    def take(self) -> tuple[dict[str, Tensor | None], dict[str, Tensor]]:
        """After the backward pass of a batch: gradients and aliases by `key`; the next batch starts anew."""
        self.lost |= {use for use in self.wanted if self._met[use] != self._traced[use]}
        taken = self._gradients, self._aliases
        self._gradients, self._aliases, self._met = dict.fromkeys(taken[0]), {}, Counter()
        return taken

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        at, axis = _WRITES.get(getattr(func, "__name__", ""), (-1, 0))
        if self.wanted and 0 <= at < len(args) and isinstance(args[at], Tensor):
            use = next((u for u in self.wanted if u[1] == axis and _same(args[at], self._weights[u])), None)
            if use is not None:
                args = (*args[:at], self._alias(use, args[at]), *args[at + 1 :])
        return func(*args, **(kwargs or {}))

    def _alias(self, use: Use, weight: Tensor) -> Tensor:
        name = key(use)
        self._met[use] += 1
        if name not in self._aliases:
            self._aliases[name] = weight.view_as(weight)

            def once(gradient: Tensor) -> None:  # what is differentiated twice comes by here twice
                handle.remove()
                self._gradients[name] = gradient

            if weight.requires_grad:
                handle = self._aliases[name].register_hook(once)
        return self._aliases[name]


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same memory, seen the same way round."""
    return a.shape == b.shape and a.stride() == b.stride() and a.data_ptr() == b.data_ptr()
