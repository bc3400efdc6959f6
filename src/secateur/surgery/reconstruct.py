"""Reconstruct: after a cut, refit each layer that lost inputs to what the dense layer gave, by least squares.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (1707.06168), eq. 5: layer by
layer in the order they run, inputs from the cut model (errors made upstream are seen and corrected), targets from
the dense model. Points are sampled: so many positions an image. No labels, no gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NeedsData
from ..evidence.sampling import patches
from ..graph.example import Example, call
from ..graph.record import Contraction, Writer
from ..graph.replay import AtContractions
from ..graph.trace import undisturbed
from ..groups.graph import Graph, trace
from ..groups.plan import Plan


class _Sampler:
    """The same positions of the same images, whoever asks: (rows, channels) of a feature map, or of its patches."""

    def __init__(self, points: int, seed: int) -> None:
        self.points, self.seed = points, seed

    def rows(self, y: Tensor, batch: int) -> Tensor:
        """(B, C, H, W) -> (B * points, C); (B, C) as it is."""
        if y.dim() == 2:
            return y
        flat = y.flatten(2)  # (B, C, positions)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + batch)
        at = torch.randint(flat.shape[2], (flat.shape[0], 1, self.points), generator=generator).to(y.device)
        taken = flat.gather(2, at.expand(-1, flat.shape[1], -1))
        return taken.transpose(1, 2).reshape(-1, flat.shape[1])


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
) -> nn.Module:
    """Refit, in place, the layers of `cut` that read cut groups of `graph`; returns `cut`.

    `points`: positions sampled an image; `ridge`: relative to the mean diagonal of the inputs' Gram matrix, it pulls
    towards the weights as they are. Layers that are grouped, transposed or used more than once are left as they are.
    Raises `NeedsData` when there are no batches.
    """
    held = list(batches)
    if not held:
        raise NeedsData("reconstruction needs batches of inputs, and none were given")
    sampler = _Sampler(points, seed)
    small = trace(cut, graph.example)
    alive = torch.from_numpy(graph.alive(plan.kept))
    targets = _record(graph, graph.model, held, sampler)
    for number, writer in _readers(graph, small, alive):
        layer = next(c for c in small.trace.contractions if c.weight == writer.weight)
        weight = cut.get_parameter(str(writer.weight))
        target = targets[number][:, alive[torch.from_numpy(writer.axis)]]
        rows = _inputs(small, cut, held, sampler, layer, weight.shape[2:])
        bias = None if writer.bias is None else cut.get_parameter(writer.bias)
        flat = weight.detach().double().movedim(writer.weight_axis, 0)
        fitted, intercept = _solve(rows, target, flat.flatten(1), ridge)
        weight.copy_(fitted.reshape(flat.shape).movedim(0, writer.weight_axis).to(weight.dtype))
        if bias is not None:
            bias.copy_(intercept.to(bias.dtype))
        elif writer.norm is not None and writer.norm.mean is not None:
            # What the layer lacks as a bias, the norm behind it takes off its mean.
            cut.get_buffer(writer.norm.mean).sub_(intercept.to(weight.dtype))
    return cut


def _readers(graph: Graph, small: Graph, alive: Tensor) -> Iterator[tuple[int, Writer]]:
    """Contractions that lost inputs, in order, whose weight is a parameter of their own, not grouped or transposed."""
    uses = Counter(c.weight for c in graph.trace.contractions)
    still = {c.weight for c in small.trace.contractions}
    writers = {w.weight: w for w in graph.trace.writers if w.groups == 1 and not w.transposed}
    for number, c in enumerate(graph.trace.contractions):
        plain = c.weight in writers and c.weight in still and uses[c.weight] == 1
        if plain and not alive[torch.from_numpy(c.labels)].all():
            yield number, writers[c.weight]


def _record(graph: Graph, model: nn.Module, batches: Sequence[Any], sampler: _Sampler) -> list[Tensor]:
    """What each contraction gives at the sampled points: one (rows, outputs) float64 per contraction."""
    kept: list[list[Tensor]] = [[] for _ in graph.trace.contractions]
    for number, batch in enumerate(batches):

        def after(contraction: Contraction, y: Tensor, number: int = number) -> Tensor:
            kept[contraction.number].append(sampler.rows(y, number).double())
            return y

        with undisturbed(model), AtContractions(graph.trace, lambda _, x: x, after):
            call(model, batch)
    return [torch.cat(k) for k in kept]


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
                seen = x if layer.geometry is None else patches(x, kernel, layer.geometry)
                rows.append(sampler.rows(seen, number).double())
            return x

        with undisturbed(model), AtContractions(graph.trace, before):
            call(model, batch)
    return torch.cat(rows)


def _solve(x: Tensor, y: Tensor, old: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """(weight (out, in), intercept (out,)) that bring x (rows, in) nearest to y (rows, out)."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    gram = centred.T @ centred
    load = ridge * gram.diagonal().mean() + torch.finfo(torch.float64).tiny
    right = centred.T @ (y - y_mean - centred @ old.T)
    new = old + torch.linalg.solve(gram + load * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), right).T
    return new, y_mean - new @ x_mean
