"""Residual blocks: how far what comes out points away from what goes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import BadModel
from ..graph.labels import Axis
from ..graph.record import AFFINE, IN, OUT, STREAM, Residual, Trace
from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector


@collector("blocks")
class Blocks(Collector):
    """Of each residual block that may go, (1,): sums over positions of 1 - cos(given, returned), `distance`, and of the
    angle between the two over pi, `angle`; `count` of positions.

    A vector runs over the channels: the one axis of what the block gives that layers write and read or, where they do
    so along several, that norms scale. Two vectors of zeros are alike; one alone is at a right angle to any other.
    """

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        residuals = {r.path: r for r in graph.trace.residuals}
        self._axes: dict[str, int] = {}
        for name in (g.name for g in graph.groups if g.kind == "depth"):
            try:
                self._axes[name] = channels(graph.trace, residuals[name])
            except BadModel as error:
                self.missing[name] = str(error)
        self._sums = {name: torch.zeros(3, dtype=torch.float64) for name in self._axes}

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
            found = between(x, y, self._axes[path])
            self._sums[path] += torch.stack([*found.sum(1), torch.tensor(float(found.shape[1]))])

        return after

    def values(self) -> dict[str, Fields]:
        """By group."""
        return {n: {"distance": s[:1], "angle": s[1:2], "count": s[2:]} for n, s in self._sums.items()}


def between(x: Tensor, y: Tensor, axis: int) -> Tensor:
    """(2, positions) float64 on the CPU: 1 - cos of the vectors along an axis, and their angle over pi.

    Both are exactly 0 where the vectors are the same.
    """
    x, y = (t.movedim(axis, -1).flatten(0, -2).double() for t in (x, y))
    a, b = (torch.linalg.vector_norm(t, dim=1, keepdim=True) for t in (x, y))
    x, y, lone = x / a.where(a > 0, 1), y / b.where(b > 0, 1), ((a > 0) != (b > 0)).flatten()
    # 1 -+ cos, from unit vectors: 1 - (x * y).sum() loses small angles to rounding, and its arccos more.
    apart, near = ((sign * y + x).square().sum(1) / 2 for sign in (-1, 1))
    apart, near = apart.where(~lone, 1.0), near.where(~lone, 1.0)
    return torch.stack([apart, torch.atan2(apart.sqrt(), near.sqrt()) * 2 / torch.pi]).cpu()


def channels(trace: Trace, residual: Residual) -> int:
    """The axis of what a block takes and gives that holds its channels. Raises `BadModel` where that cannot be told."""
    bits = np.zeros(int(trace.classes.max()) + 1, dtype=trace.roles.dtype)
    np.bitwise_or.at(bits, trace.classes, trace.roles)

    def with_role(axes: tuple[Axis, ...], role: int) -> list[int]:
        return [i for i, a in enumerate(axes) if a.any() and np.bitwise_or.reduce(bits[trace.classes[a[a > 0]]]) & role]

    found: set[tuple[int, int]] = set()
    for axes in residual.given:
        fit = with_role(axes, OUT | IN | STREAM)
        if len(fit) > 1:
            fit = [i for i in fit if i in with_role(axes, AFFINE)] or fit
        if len(fit) != 1:
            told = f"layers write axes {', '.join(map(str, fit))} of what it gives" if fit else "no layer writes to it"
            raise BadModel(f"{told}, so that its channels cannot be told from positions")
        found.add((len(axes), fit[0]))
    if len(found) != 1:
        raise BadModel("it is called with its channels in two layouts")
    return found.pop()[1]
