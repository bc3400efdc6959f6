"""Gradients of gates behind each batch norm alone, by batch: gamma * dL/dgamma + beta * dL/dbeta."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..groups.graph import Graph
from ..groups.group import Group, Source
from .base import Collector, Fields, Sampling, collector
from .units import per_unit


@collector("norm_gradients")
class NormGradients(Collector):
    """Of each group that is written through batch norms alone: `square`, (norms, units), sums over batches of g^2 with
    g the gradient of a gate behind that norm, summed over the channels that a unit holds; `count`.
    """

    differentiates = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._norms: dict[str, list[Source]] = {}
        for group in graph.groups:
            bare = [s.writer.path for s in group.sources if s.writer.norm is None or s.writer.norm.weight is None]
            if bare or not group.sources:
                who = f"{bare[0]!r} writes it" if bare else "no layer writes it"
                self.missing[group.name] = f"{who}, and no batch norm with a scale follows"
            else:
                self._norms[group.name] = _once(group)
        self._sums = {n: torch.zeros(len(s), len(s[0].index), dtype=torch.float64) for n, s in self._norms.items()}
        self._count = 0

    def parameters(self) -> Collection[str]:
        """Scales and shifts."""
        return {n for sources in self._norms.values() for s in sources for n in _affine(s)}

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """One more."""
        self._count += 1
        for name, sources in self._norms.items():
            for row, source in enumerate(sources):
                pairs = ((held[n].detach(), gradients[n]) for n in _affine(source))
                parts = [per_unit(p.double() * g.detach().double(), 0, source.index) for p, g in pairs if g is not None]
                if parts:
                    self._sums[name][row] += torch.stack(parts).sum(0).square()

    def values(self) -> dict[str, Fields]:
        """By group."""
        return {n: {"square": s, "count": torch.tensor(self._count)} for n, s in self._sums.items()}


def _once(group: Group) -> list[Source]:
    """One source for each norm: the gradient of a norm that runs twice is the sum over its runs already."""
    return list({s.writer.norm.weight: s for s in group.sources if s.writer.norm is not None}.values())


def _affine(source: Source) -> list[str]:
    norm = source.writer.norm
    return [] if norm is None else [n for n in (norm.weight, norm.bias) if n is not None]
