"""Reconstruct: after a cut, refit each layer that lost inputs to what the dense layer gave, by least squares.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (1707.06168), eq. 5: layer by
layer in the order they run, inputs from the cut model (errors made upstream are seen and corrected), targets from
the dense model. Points are sampled: so many positions an image. No labels, no gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NeedsData
from ..evidence.least_squares import solve
from ..evidence.sampling import sampled_patches, sampled_rows
from ..graph.example import Example, call
from ..graph.record import Contraction, Geometry, Writer
from ..graph.replay import AtContractions
from ..graph.trace import undisturbed
from ..groups.graph import Graph, trace
from ..groups.plan import Plan


@dataclass(frozen=True)
class _Sampler:
    """The same positions of the same images, whoever asks: rows of what a layer reads or gives."""

    points: int
    seed: int

    def rows(self, y: Tensor, batch: int, kernel: Sequence[int] = (), geometry: Geometry | None = None) -> Tensor:
        """(B, C, *space) -> (B * points, C), of patches where a geometry is given (B * points, C * kernel)."""
        if y.dim() == 2:
            return y.double()
        seed = self.seed * 1_000_003 + batch
        if geometry is None:
            return sampled_rows(y, y.dim() - 2, self.points, seed, whole=False).double()
        return sampled_patches(y, kernel, geometry, self.points, seed, whole=False).double()


@torch.no_grad()
def reconstruct(
    graph: Graph,
    plan: Plan,
    cut: nn.Module,
    batches: Iterable[Example],
    *,
    points: int = 10,
    ridge: float = 1e-3,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> nn.Module:
    """Refit, in place, the layers of `cut` that read cut groups of `graph`; returns `cut`.

    `points`: positions sampled an image; `ridge`: relative to the mean diagonal of the inputs' Gram matrix, it pulls
    towards the weights as they are; `only`: no other weights than these. Layers that are grouped, transposed or used
    more than once are left as they are. Raises `NeedsData` when there are no batches.
    """
    held = list(batches)
    if not held:
        raise NeedsData("reconstruction needs batches of inputs, and none were given")
    sampler = _Sampler(points, seed)
    small = trace(cut, graph.example)
    alive = torch.from_numpy(graph.alive(plan.kept))
    layers = [(n, w) for n, w in _readers(graph, small, alive) if only is None or w.weight in only]
    targets = _record(graph, graph.model, held, sampler, {n for n, _ in layers})
    for number, writer in layers:
        layer = next(c for c in small.trace.contractions if c.weight == writer.weight)
        weight = cut.get_parameter(str(writer.weight))
        target = targets[number][:, alive[torch.from_numpy(writer.axis)]]
        rows = _inputs(small, cut, held, sampler, layer, weight.shape[2:])
        bias = None if writer.bias is None else cut.get_parameter(writer.bias)
        flat = weight.detach().double().movedim(writer.weight_axis, 0)
        mean = None if writer.norm is None or writer.norm.mean is None else cut.get_buffer(writer.norm.mean)
        free = bias is not None or mean is not None  # else an intercept would have no place to go to
        fitted, intercept = _fit(rows, target, flat.flatten(1), ridge, free)
        weight.copy_(fitted.reshape(flat.shape).movedim(0, writer.weight_axis).to(weight.dtype))
        if bias is not None:
            bias.copy_(intercept.to(bias.dtype))
        elif mean is not None:
            # What the layer lacks as a bias, the norm behind it takes off its mean.
            mean.sub_(intercept.to(weight.dtype))
    return cut


def _readers(graph: Graph, small: Graph, alive: Tensor) -> Iterator[tuple[int, Writer]]:
    """Contractions that lost inputs, in order, whose weight is a parameter of their own, not grouped or transposed."""
    uses = Counter(c.weight for c in graph.trace.contractions)
    still = {c.weight for c in small.trace.contractions}
    writers = {w.weight: w for w in graph.trace.writers if w.groups == 1 and not (w.transposed or w.viewed)}
    for number, c in enumerate(graph.trace.contractions):
        plain = c.weight in writers and c.weight in still and uses[c.weight] == 1
        if plain and not alive[torch.from_numpy(c.labels)].all():
            yield number, writers[c.weight]


def _record(
    graph: Graph, model: nn.Module, batches: Sequence[Any], sampler: _Sampler, wanted: Collection[int]
) -> dict[int, Tensor]:
    """What these contractions give at the sampled points, by number: (rows, outputs) float64."""
    kept: dict[int, list[Tensor]] = {number: [] for number in wanted}
    for number, batch in enumerate(batches):

        def after(contraction: Contraction, y: Tensor, number: int = number) -> Tensor:
            if contraction.number in kept:
                kept[contraction.number].append(sampler.rows(y, number))
            return y

        with undisturbed(model), AtContractions(graph.trace, lambda _, x: x, after):
            call(model, batch)
    return {number: torch.cat(rows) for number, rows in kept.items()}


def _inputs(
    graph: Graph,
    model: nn.Module,
    batches: Sequence[Any],
    sampler: _Sampler,
    layer: Contraction,
    kernel: Sequence[int],
) -> Tensor:
    """What one contraction reads at the sampled points, as rows for its flat weight: (rows, I * kernel)."""
    rows: list[Tensor] = []
    for number, batch in enumerate(batches):

        def before(contraction: Contraction, x: Tensor, number: int = number) -> Tensor:
            if contraction.number == layer.number:
                rows.append(sampler.rows(x, number, kernel, layer.geometry))
            return x

        with undisturbed(model), AtContractions(graph.trace, before):
            call(model, batch)
    return torch.cat(rows)


def _fit(x: Tensor, y: Tensor, old: Tensor, ridge: float, intercept: bool) -> tuple[Tensor, Tensor]:
    """(weight (out, in), intercept (out,), 0 without one) that bring x (rows, in) nearest to y (rows, out)."""
    x_mean, y_mean = x.mean(0) * intercept, y.mean(0) * intercept
    centred = x - x_mean
    new = old + solve(centred.T @ centred, centred.T @ (y - y_mean - centred @ old.T), ridge).T
    return new, y_mean - new @ x_mean
