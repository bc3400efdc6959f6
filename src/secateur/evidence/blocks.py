"""Residual blocks: how much of what goes in comes out in the same direction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector


@collector("blocks")
class Blocks(Collector):
    """Of each residual block that may go, (1,): `cosine`, the sum over positions of cos(given, returned); `count`.

    A vector runs over the channels of a feature map, or over the last axis of a sequence.
    """

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums = {g.name: torch.zeros(2, dtype=torch.float64) for g in graph.groups if g.kind == "depth"}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on the blocks."""
        hooks = [self.graph.model.get_submodule(path).register_forward_hook(self._hook(path)) for path in self._sums]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, path: str) -> Any:
        def after(module: nn.Module, args: Any, output: Any) -> None:
            x, y = args[0].detach(), (output[0] if isinstance(output, tuple) else output).detach()
            cosine = nn.functional.cosine_similarity(x.double(), y.double(), dim=1 if x.dim() > 3 else -1)
            self._sums[path] += torch.stack([cosine.sum().cpu(), torch.tensor(float(cosine.numel()))])

        return after

    def values(self) -> dict[str, Fields]:
        """By group."""
        return {name: {"cosine": s[:1], "count": s[1:]} for name, s in self._sums.items()}
