"""Gradients of weights, by batch: one sum for each weight, in the weight's own type."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..groups.graph import Graph
from .base import Collector, Evidence, Fields, Sampling, collector


class Sums(Collector):
    """Of each parameter, of its shape, the sum over batches of what `add` makes of g = dL/dw, as `field`; `count`."""

    differentiates = True
    field = "total"

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def in_turn(self) -> Collection[str]:
        """All that are looked at and have a gradient."""
        wanted = self.sampling.weights
        own = (n for n, p in self.graph.model.named_parameters() if p.is_floating_point())
        return [n for n in own if wanted is None or n in wanted]

    def gradient(self, name: str, gradient: Tensor, parameter: Tensor) -> None:
        """One more."""
        if name not in self._sums:
            self._sums[name] = torch.zeros_like(gradient)
        self.add(self._sums[name], gradient)

    def add(self, total: Tensor, g: Tensor) -> None:
        """In place."""
        total.add_(g)

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """Count it."""
        self._count += 1

    def values(self) -> dict[str, Fields]:
        """By parameter; those that the loss does not depend on have none."""
        count = torch.tensor(self._count)
        return {n: {self.field: s, "count": count} for n, s in self._sums.items()}


@collector("weight_gradients")
class WeightGradients(Sums):
    """Of each parameter, of its shape, the sum over batches of g = dL/dw times their examples: `total`.

    `count`: of examples.
    """

    def add(self, total: Tensor, g: Tensor) -> None:
        """In place."""
        total.add_(g, alpha=self.examples)

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """Count its examples."""
        self._count += self.examples


@collector("weight_squares")
class WeightSquares(Sums):
    """Of each parameter, of its shape, the sum over batches of (dL/dw)^2: `square`; `count`."""

    field = "square"

    def add(self, total: Tensor, g: Tensor) -> None:
        """In place."""
        total.addcmul_(g, g)


def mean_square(evidence: Evidence, name: str) -> Tensor:
    """Mean over batches of (dL/dw)^2, of the parameter's shape; 0 where the loss does not depend on it."""
    if name not in evidence.values.get(WeightSquares.name, {name: {}}):
        return torch.zeros_like(evidence.weight(name))
    found = evidence.of(WeightSquares.name, name)
    return found["square"] / found["count"]
