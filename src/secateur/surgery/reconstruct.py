"""Reconstruct: after a cut, refit each layer that lost inputs to what the dense layer gave, by least squares.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (1707.06168), eq. 5: layer by
layer in the order they run, inputs from the cut model (errors made upstream are seen and corrected), targets from
the dense model. Points are sampled: so many positions an image. No labels, no gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NeedsData
from ..graph.example import Example, call
from ..graph.record import Contraction
from ..graph.trace import eval_mode
from ..groups.graph import Graph, trace
from ..groups.plan import Plan
from .mask import AtContractions


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
    towards the weights as they are. Layers that are grouped or used more than once are left as they are.
    Raises `NeedsData` when there are no batches.
    """
    held = list(batches)
    if not held:
        raise NeedsData("reconstruction needs batches of inputs, and none were given")
    sampler = _Sampler(points, seed)
    small = trace(cut, graph.example)
    alive = torch.from_numpy(graph.alive(plan.kept))
    targets = _record(graph, graph.model, held, sampler)
    for number in _readers(graph, alive):
        weight = graph.trace.contractions[number].weight
        writer = next(w for w in graph.trace.writers if w.weight == weight)
        outputs = alive[torch.from_numpy(writer.axis)]
        rows, bias = _inputs(small, cut, held, sampler, number), cut.get_parameter(writer.bias) if writer.bias else None
        fitted = _solve(rows, targets[number][:, outputs], cut.get_parameter(str(weight)), bias, ridge)
        _set(cut, str(weight), writer.norm, bias, fitted)
    return cut


def _readers(graph: Graph, alive: Tensor) -> list[int]:
    """Contractions that lost inputs and whose weight is their own and not grouped, in order."""
    uses: dict[str, int] = {}
    for writer in graph.trace.writers:
        uses[writer.weight] = uses.get(writer.weight, 0) + 1
    plain = {w.weight for w in graph.trace.writers if w.groups == 1 and uses[w.weight] == 1}
    found = enumerate(graph.trace.contractions)
    return [i for i, c in found if c.weight in plain and not alive[torch.from_numpy(c.labels)].all()]


def _record(graph: Graph, model: nn.Module, batches: Sequence[Any], sampler: _Sampler) -> list[Tensor]:
    """What each contraction gives at the sampled points: one (rows, outputs) float64 per contraction."""
    kept: list[list[Tensor]] = [[] for _ in graph.trace.contractions]
    order = {id(c): i for i, c in enumerate(graph.trace.contractions)}
    for number, batch in enumerate(batches):

        def after(contraction: Contraction, y: Tensor, number: int = number) -> Tensor:
            kept[order[id(contraction)]].append(sampler.rows(y, number).double())
            return y

        with eval_mode(model), AtContractions(graph.trace, lambda _, x: x, after):
            call(model, batch)
    return [torch.cat(k) for k in kept]


def _inputs(graph: Graph, model: nn.Module, batches: Sequence[Any], sampler: _Sampler, wanted: int) -> Tensor:
    """What one contraction reads at the sampled points, as rows for its flat weight: (rows, I * kh * kw)."""
    layer = graph.trace.contractions[wanted]
    module = model.get_submodule(layer.path)
    rows: list[Tensor] = []
    for number, batch in enumerate(batches):

        def before(contraction: Contraction, x: Tensor, number: int = number) -> Tensor:
            if contraction is layer:
                rows.append(sampler.rows(_patches(module, x), number).double())
            return x

        with eval_mode(model), AtContractions(graph.trace, before):
            call(model, batch)
    return torch.cat(rows)


def _patches(module: nn.Module, x: Tensor) -> Tensor:
    """(B, I, H, W) -> (B, I * kh * kw, H', W'): what a convolution sees at each position."""
    if not isinstance(module, nn.Conv2d):
        return x
    size, stride, padding, dilation = module.kernel_size, module.stride, module.padding, module.dilation
    assert not isinstance(padding, str)
    seen = nn.functional.unfold(x, size, dilation=dilation, padding=padding, stride=stride)
    height = (x.shape[2] + 2 * padding[0] - dilation[0] * (size[0] - 1) - 1) // stride[0] + 1
    return seen.reshape(x.shape[0], seen.shape[1], height, -1)


def _solve(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, ridge: float) -> tuple[Tensor, Tensor]:
    """(weight, intercept) that bring x (rows, in) nearest to y (rows, out)."""
    old = weight.detach().double().flatten(1)
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    gram = centred.T @ centred
    load = ridge * gram.diagonal().mean() + torch.finfo(torch.float64).tiny
    right = centred.T @ (y - y_mean - centred @ old.T)
    change = torch.linalg.solve(gram + load * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), right)
    new = old + change.T
    return new.reshape(weight.shape), y_mean - new @ x_mean


def _set(model: nn.Module, weight: str, norm: str | None, bias: Tensor | None, fitted: tuple[Tensor, Tensor]) -> None:
    parameter = model.get_parameter(weight)
    new, intercept = fitted
    if bias is not None:
        bias.copy_(intercept.to(bias.dtype))
    elif norm is not None:
        running = model.get_submodule(norm).running_mean
        if isinstance(running, Tensor):  # what the layer lacks as a bias, the norm behind it takes off its mean
            running.sub_(intercept.to(running.dtype))
    parameter.copy_(new.to(parameter.dtype))
