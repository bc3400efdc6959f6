"""Effects of weights, by batch: (w * dL/dw)^2, the square of what the loss changes by to first order if w goes to 0.

Units hold whole slices, so that sums over slices do: a number for each index of an axis, not one for each weight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..groups.graph import Graph
from .base import Collector, Evidence, Fields, Sampling, collector

CHUNK = 2**18  # weights that are looked at in float64 at a time


@collector("weight_effects")
class WeightEffects(Collector):
    """Of each parameter, for each of its axes: sums over batches, and over all other axes, of (w * dL/dw)^2: `axis0`,
    `axis1` and so on, (indices of that axis,) float64; `count`.
    """

    differentiates = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums: dict[str, list[Tensor]] = {}
        self._count = 0

    def in_turn(self) -> Collection[str]:
        """All that have a gradient."""
        return [n for n, p in self.graph.model.named_parameters() if p.is_floating_point()]

    def gradient(self, name: str, gradient: Tensor, parameter: Tensor) -> None:
        """One more."""
        found = [s.cpu() for s in squares(parameter, gradient)]
        before = self._sums.get(name)
        self._sums[name] = found if before is None else [a + b for a, b in zip(before, found, strict=True)]

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """Count it."""
        self._count += 1

    def values(self) -> dict[str, Fields]:
        """By parameter; those that the loss does not depend on have none."""
        count = torch.tensor(self._count)
        return {n: {f"axis{a}": s for a, s in enumerate(sums)} | {"count": count} for n, sums in self._sums.items()}


def squares(a: Tensor, b: Tensor) -> list[Tensor]:
    """For each axis, the sum of (a * b)^2 over all others: (indices,) float64. Never copied whole."""
    if not a.dim():
        return []
    rows = max(1, CHUNK * a.shape[0] // max(a.numel(), 1))
    parts = zip(a.split(rows), b.split(rows), strict=True)
    first, *others = zip(*(_by_axis((x.double() * y).square_()) for x, y in parts), strict=True)
    return [torch.cat(first), *(sum(sums[1:], sums[0]) for sums in others)]


def _by_axis(x: Tensor) -> list[Tensor]:
    """For each axis, the sum over all others. Half of the axes at a time: what is left for the others is small."""
    half = x.dim() // 2
    if not half:
        return [x]
    left, right = tuple(range(half)), tuple(range(half, x.dim()))
    return _by_axis(x.sum(right)) + _by_axis(x.sum(left))


def mean_effect(evidence: Evidence, name: str, axis: int) -> Tensor:
    """Mean over batches of (w * dL/dw)^2, summed by index of the axis; 0 where the loss does not depend on w."""
    if name not in evidence.values.get(WeightEffects.name, {name: {}}):
        return torch.zeros(evidence.weight(name).shape[axis], dtype=torch.float64)
    found = evidence.of(WeightEffects.name, name)
    return found[f"axis{axis}"] / found["count"]
