"""Gradients of weights, by batch: one sum and one sum of squares for each weight, in the weight's own type."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..groups.graph import Graph
from .base import Collector, Evidence, Fields, Sampling, collector


@collector("weight_gradients")
class WeightGradients(Collector):
    """Of each parameter, sums over batches of g = dL/dw, of the parameter's shape: `total` g, `square` g^2; `count`."""

    differentiates = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        self._count = 0

    def parameters(self) -> Collection[str]:
        """All that have a gradient."""
        return [n for n, p in self.graph.model.named_parameters() if p.is_floating_point()]

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """One more."""
        self._count += 1
        for name in self.parameters():
            g = gradients[name]
            if g is None:
                continue
            g = g.detach()
            if name not in self._sums:
                self._sums[name] = (torch.zeros_like(g), torch.zeros_like(g))
            total, square = self._sums[name]
            total.add_(g)
            square.addcmul_(g, g)

    def values(self) -> dict[str, Fields]:
        """By parameter."""
        count = torch.tensor(self._count)
        return {n: {"total": t, "square": s, "count": count} for n, (t, s) in self._sums.items()}


def mean_square(evidence: Evidence, name: str) -> Tensor:
    """Mean over batches of (dL/dw)^2, of the parameter's shape; 0 where the loss does not depend on it."""
    if name not in evidence.values.get(WeightGradients.name, {name: {}}):
        return torch.zeros_like(evidence.weight(name))
    found = evidence.of(WeightGradients.name, name)
    return found["square"] / found["count"]
