"""Sampled positions, and what a convolution sees there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..graph.record import Geometry


def points(space: Sequence[int], examples: int, count: int, seed: int) -> list[Tensor]:
    """For each axis of a space, (examples, count) positions, drawn with replacement; where there are fewer, all."""
    size = math.prod(space)
    if size <= count:
        flat = torch.arange(size).expand(examples, size)
    else:
        flat = torch.randint(size, (examples, count), generator=torch.Generator().manual_seed(seed))
    found: list[Tensor] = []
    for n in reversed(space):
        found.insert(0, flat % n)
        flat = flat // n
    return found


def windows(x: Tensor, kernel: Sequence[int], geometry: Geometry) -> Tensor:
    """(B, I, *space) -> (B, I, *space', *kernel), a view: what a convolution sees at each position."""
    x = nn.functional.pad(x, [p for padding in reversed(geometry.padding) for p in (padding, padding)])
    for d, (size, stride, dilation) in enumerate(zip(kernel, geometry.stride, geometry.dilation, strict=True)):
        x = x.unfold(2 + d, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return x


def patches(x: Tensor, kernel: Sequence[int], geometry: Geometry) -> Tensor:
    """(B, I, *space) -> (B, I * kernel, *space')."""
    space = len(kernel)
    seen = windows(x, kernel, geometry)
    seen = seen.movedim(tuple(range(2 + space, 2 + 2 * space)), tuple(range(2, 2 + space)))
    return seen.reshape(seen.shape[0], -1, *seen.shape[2 + space :])


def sampled_patches(x: Tensor, kernel: Sequence[int], geometry: Geometry, count: int, seed: int) -> Tensor:
    """(B * positions, I * kernel): what a convolution sees at up to `count` positions of each example."""
    seen = windows(x, kernel, geometry)
    space = seen.shape[2 : 2 + len(kernel)]
    at = [p.to(x.device) for p in points(space, len(x), count, seed)]
    example = torch.arange(len(x), device=x.device)[:, None]
    taken = seen.movedim(1, 1 + len(kernel))[(example, *at)]  # (B, positions, I, *kernel)
    return taken.reshape(taken.shape[0] * taken.shape[1], -1)
