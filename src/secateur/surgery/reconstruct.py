"""Reconstruct: after a cut, refit each layer that lost inputs to what the dense layer gave, by least squares.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (1707.06168), eq. 5: layer by
layer in the order they run, inputs from the cut model (errors made upstream are seen and corrected), targets from
the dense model; the last layer of a residual branch makes up for what the shortcut has lost, too (sec. 3.3). Points are
sampled: so many positions an image. No labels, no gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadOption, NeedsData
from ..evidence.least_squares import check_ridge, solve
from ..evidence.sampling import sampled_patches, sampled_rows
from ..graph.example import Example, call
from ..graph.record import Contraction, Writer
from ..graph.replay import AtContractions
from ..graph.trace import undisturbed
from ..groups.graph import Graph, trace
from ..groups.plan import Plan
from .sums import Sums

MUTE = 1e-3  # of a norm's largest scale


@dataclass(frozen=True)
class _Sampler:
    """The same positions of the same images, whoever asks: rows of what a layer reads or gives."""

    points: int
    seed: int

    def read(self, x: Tensor, batch: int, contraction: Contraction, kernel: Sequence[int]) -> Tensor:
        """Of what a layer reads: (rows, I * kernel), patches of a convolution."""
        if contraction.geometry is None:
            return x.movedim(contraction.axis, -1).flatten(0, -2).double()
        seed = self._seed(batch)
        return sampled_patches(x, kernel, contraction.geometry, self.points, seed, whole=False).double()

    def given(self, y: Tensor, batch: int, contraction: Contraction) -> Tensor:
        """Of what it gives: (rows, O)."""
        if contraction.geometry is None:
            # Factors of a product: the outputs lie where the activation's summed axis lay.
            return y.movedim(-1 if contraction.axis == y.dim() - 1 else -2, -1).flatten(0, -2).double()
        return self._points(y, batch)

    def summed(self, total: Tensor, batch: int, contraction: Contraction) -> Tensor:
        """Of a sum that it goes into, outputs last but for convolutions: (rows, O)."""
        return total.double() if contraction.geometry is None else self._points(total, batch)

    def _points(self, y: Tensor, batch: int) -> Tensor:
        return sampled_rows(y, y.dim() - 2, self.points, self._seed(batch), whole=False).double()

    def _seed(self, batch: int) -> int:
        return self.seed * 1_000_003 + batch


@dataclass(frozen=True, eq=False)
class _Target:
    """What the dense layer gave: (rows, outputs); and the sum that it went into, with the norm's scale between."""

    given: Tensor
    sums: Tensor | None
    scale: Tensor | None

    def of(self, kept: Tensor) -> _Target:
        """Of these outputs alone."""
        sums, scale = (None if t is None else t[..., kept] for t in (self.sums, self.scale))
        return _Target(self.given[:, kept], sums, scale)

    def beside(self, given: Tensor, sums: Tensor | None) -> Tensor:
        """What the layer should give, where it now gives `given` and the sum is `sums`.

        Outputs that the norm all but mutes cannot make up for anything, and aim at what the dense layer gave.
        """
        if self.sums is None or sums is None:
            return self.given
        scale = torch.ones(given.shape[1], dtype=given.dtype) if self.scale is None else self.scale
        loud = scale.abs() > MUTE * scale.abs().max()
        return torch.where(loud, given + (self.sums - sums) / scale, self.given)


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
    residual: bool = True,
) -> nn.Module:
    """Refit, in place, the layers of `cut` that read cut groups of `graph`; returns `cut`.

    `points`: positions sampled an image; `ridge`: relative to the mean diagonal of the inputs' Gram matrix, it pulls
    towards the weights as they are; `only`: no other weights than these; `residual`: the last layer of a residual
    branch aims at what the sum lacks of that in the dense model, not at what the dense layer gave. Layers that are
    grouped, transposed or used more than once are left as they are. Raises `NeedsData` when there are no batches, and
    `BadOption`.
    """
    check_ridge(ridge)
    if points < 1:
        raise BadOption(f"points={points!r}: give how many positions an image has, at least 1")
    held = list(batches)
    if not held:
        raise NeedsData("reconstruction needs batches of inputs, and none were given")
    sampler = _Sampler(points, seed)
    small = trace(cut, graph.example)
    alive = torch.from_numpy(graph.alive(plan.kept))
    layers = [(n, w) for n, w in _readers(graph, small, alive) if only is None or w.weight in only]
    dense = _record(graph, graph.model, held, sampler, {n for n, _ in layers}, residual)
    for number, writer in layers:
        layer = next(c for c in small.trace.contractions if c.weight == writer.weight)
        weight = cut.get_parameter(str(writer.weight))
        bias = None if writer.bias is None else cut.get_parameter(writer.bias)
        flat = weight.detach().double().movedim(writer.weight_axis, 0)
        target = dense.pop(number).of(alive[torch.from_numpy(writer.axis)])
        rows, summed = _inputs(small, cut, held, sampler, layer, weight.shape[2:], target.sums is not None)
        given = rows @ flat.flatten(1).T + (0.0 if bias is None else bias.double())
        mean = None if writer.norm is None or writer.norm.mean is None else cut.get_buffer(writer.norm.mean)
        free = bias is not None or mean is not None  # else an intercept would have no place to go to
        fitted, intercept = _fit(rows, target.beside(given, summed), flat.flatten(1), ridge, free)
        weight.copy_(fitted.reshape(flat.shape).movedim(0, writer.weight_axis).to(weight.dtype))
        if bias is not None:
            bias.copy_(intercept.to(bias.dtype))
        elif mean is not None:
            # What the layer lacks as a bias, the norm behind it takes off its mean.
            mean.sub_(intercept.to(weight.dtype))
    return cut


def _readers(graph: Graph, small: Graph, alive: Tensor) -> Iterator[tuple[int, Writer]]:
    """Contractions that lost inputs, in order, whose weight is a parameter of their own, not grouped or transposed.

    Of their own: no other layer multiplies with it or looks words up in it.
    """
    uses = Counter(c.weight for c in graph.trace.contractions)
    looked = Counter(w.weight for w in graph.trace.writers)
    still = {c.weight for c in small.trace.contractions}
    writers = {w.weight: w for w in graph.trace.writers if w.groups == 1 and not (w.transposed or w.viewed)}
    for number, c in enumerate(graph.trace.contractions):
        plain = c.weight in writers and c.weight in still and uses[c.weight] == looked[c.weight] == 1
        if plain and not alive[torch.from_numpy(c.labels)].all():
            yield number, writers[c.weight]


def _record(
    graph: Graph, model: nn.Module, batches: Sequence[Any], sampler: _Sampler, wanted: Collection[int], residual: bool
) -> dict[int, _Target]:
    """What these contractions give at the sampled points, by number, and the sums that it goes into."""
    kept: dict[int, list[Tensor]] = {number: [] for number in wanted}
    sums: dict[int, list[Tensor]] = {}
    scales: dict[int, Tensor | None] = {}
    shared: set[int] = set()
    for number, batch in enumerate(batches):

        def after(contraction: Contraction, y: Tensor, number: int = number) -> Tensor:
            if contraction.number in kept:
                kept[contraction.number].append(sampler.given(y, number, contraction))
            return y

        def seen(layer: int, total: Tensor, scale: Tensor | None, number: int = number) -> None:
            sums.setdefault(layer, []).append(sampler.summed(total, number, graph.trace.contractions[layer]))
            scales[layer] = scale

        ops = AtContractions(graph.trace, lambda _, x: x, after, weights=dict(model.named_parameters()))
        with undisturbed(model), ops, Sums(ops, wanted if residual else (), seen) as adding:
            call(model, batch)
        shared |= adding.shared
    found = {n: torch.cat(rows) for n, rows in sums.items() if n not in shared}
    return {n: _Target(torch.cat(rows), found.get(n), scales.get(n)) for n, rows in kept.items()}


class _Enough(BaseException):
    """All that was wanted of a forward has been seen."""


def _inputs(
    graph: Graph,
    model: nn.Module,
    batches: Sequence[Any],
    sampler: _Sampler,
    layer: Contraction,
    kernel: Sequence[int],
    adds: bool,
) -> tuple[Tensor, Tensor | None]:
    """What one contraction reads at the sampled points, as rows for its flat weight: (rows, I * kernel).

    And, if it `adds` to one, the sum that it goes into: (rows, outputs).
    """
    rows: list[Tensor] = []
    sums: list[Tensor] = []

    def before(contraction: Contraction, x: Tensor) -> Tensor:
        if contraction.number == layer.number:
            rows.append(sampler.read(x, len(rows), contraction, kernel))
            if not adds:
                raise _Enough
        return x

    def seen(_: int, total: Tensor, scale: Tensor | None) -> None:
        sums.append(sampler.summed(total, len(sums), layer))
        raise _Enough

    weights = dict(model.named_parameters())
    with undisturbed(model):
        for batch in batches:
            ops = AtContractions(graph.trace, before, weights=weights)
            with suppress(_Enough), ops, Sums(ops, {layer.number}, seen) if adds else nullcontext():
                call(model, batch)
    return torch.cat(rows), torch.cat(sums) if sums else None


def _fit(x: Tensor, y: Tensor, old: Tensor, ridge: float, intercept: bool) -> tuple[Tensor, Tensor]:
    """(weight (out, in), intercept (out,), 0 without one) that bring x (rows, in) nearest to y (rows, out)."""
    x_mean, y_mean = x.mean(0) * intercept, y.mean(0) * intercept
    centred = x - x_mean
    new = old + solve(centred.T @ centred, centred.T @ (y - y_mean - centred @ old.T), ridge).T
    return new, y_mean - new @ x_mean
