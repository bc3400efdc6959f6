"""Examples of another batch size, or of other values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import BadExample
from ..graph.example import Example, map_tensors, tensors


def batch_size(example: Example) -> int:
    """The first size of every tensor of the example. Raises `BadExample` where they differ."""
    sizes = {t.shape[0] if t.dim() else 0 for t in tensors(example)}
    if len(sizes) != 1 or 0 in sizes:
        raise BadExample(
            f"inputs of shapes {[list(t.shape) for t in tensors(example)]} have no batch size in common; "
            "ask for no other, or give inputs that all start with the batch"
        )
    return sizes.pop()


def with_batch(example: Example, size: int) -> Example:
    """The example with so many rows: its own, over and over. Raises `BadExample`."""
    if size < 1:
        raise BadExample(f"batch {size!r}: give a whole number from 1 up")
    rows = torch.arange(size) % batch_size(example)
    return _mapped(example, lambda t: t[rows])


def other_values(example: Example, seed: int = 0) -> Example:
    """An example of the same shapes: floats standard normal, whole numbers its own in another order.

    What holds two kinds of values at most stays: a mask in another order may hide everything from a token.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(t: Tensor) -> Tensor:
        if t.is_floating_point():
            return torch.randn(t.shape, generator=generator).to(t.dtype)
        if t.unique().numel() <= 2:
            return t
        return t.flatten()[torch.randperm(t.numel(), generator=generator)].reshape(t.shape)

    return _mapped(example, drawn)


def _mapped(example: Example, f: Any) -> Example:
    made: Example = map_tensors(example, f)
    return made
