"""One layer and what it reads; evidence for it; networks without norms."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import secateur
from secateur.evidence.base import Evidence
from secateur.evidence.collect import collect


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(weight: Tensor) -> nn.Linear:
    """Without a bias."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    with torch.no_grad():
        made.weight.copy_(weight)
    return made


def targets(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """One batch, all of class 0."""
    return [(x, torch.zeros(len(x), dtype=torch.long))]


def evidence_of(model: nn.Module, x: Tensor, criterion: Any, batches: Any = None, loss: Any = None) -> Evidence:
    """What the criterion needs."""
    graph = secateur.trace(model, x)
    return collect(graph, criterion.needs, batches=batches or targets(x), loss=loss)


def sparsified(weight: Tensor, x: Tensor, criterion: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """(mask, weights after it) of one linear layer that reads x (rows, inputs)."""
    found = secateur.sparsify(layer(weight), x[:2], criterion=criterion, batches=targets(x), **options)
    return found.masks["weight"], found.model.get_parameter("weight").detach()


def correlated(rows: int, inputs: int, seed: int = 1) -> Tensor:
    """Inputs that depend on each other."""
    return noise(rows, inputs, seed=seed) @ (noise(inputs, inputs, seed=seed + 1) * 0.4 + torch.eye(inputs))


def error(weight: Tensor, after: Tensor, x: Tensor) -> float:
    """Squared, of what the layer gives, over all rows."""
    return float((x @ (after - weight).T).square().sum())


def relu_chain(*widths: int, seed: int = 0) -> nn.Sequential:
    """Linear layers without biases, ReLU between them."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += [layer(noise(b, a, seed=seed + i)), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
