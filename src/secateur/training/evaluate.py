"""Measure a classifier on batches; its mode is put back after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import NeedsData

Batches = Iterable[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """After it, each module is in the mode (train or eval) it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate_accuracy(model: nn.Module, loader: Batches) -> float:
    """The share, in [0, 1], of labels `y` (n, ...) that are the largest of the outputs (n, classes, ...)."""
    right, count = 0, 0
    for outputs, y in _outputs(model, loader):
        right += int((outputs.argmax(1) == y).sum())
        count += y.numel()
    return right / _some(count)


def mean_loss(model: nn.Module, loader: Batches, loss: Loss = F.cross_entropy) -> float:
    """The mean over all examples of `loss(outputs, y)`, itself a mean over the examples of a batch."""
    total, count = 0.0, 0
    for outputs, y in _outputs(model, loader):
        total += float(loss(outputs, y)) * len(y)
        count += len(y)
    return total / _some(count)


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter lives; the CPU for a model without any."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _outputs(model: nn.Module, loader: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    device = device_of(model)
    with keeping_modes(model), torch.inference_mode():
        model.eval()
        for x, y in loader:
            yield model(x.to(device)), y.to(device)


def _some(count: int) -> int:
    if count == 0:
        raise NeedsData("the loader gave no examples to evaluate on.")
    return count
