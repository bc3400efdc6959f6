"""Sampled positions, and what a convolution sees there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..graph.record import Geometry


def points(space: Sequence[int], examples: int, count: int, seed: int, *, whole: bool = True) -> list[Tensor]:
    """For each axis of a space, (examples, count) positions, drawn with replacement; `whole`: where fewer, all."""
    size = math.prod(space)
    if whole and size <= count:
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


def sampled_patches(
    x: Tensor, kernel: Sequence[int], geometry: Geometry, count: int, seed: int, *, whole: bool = True
) -> Tensor:
    """(B * positions, I * kernel): what a convolution sees at up to `count` positions of each example."""
    return sampled_rows(windows(x, kernel, geometry), len(kernel), count, seed, whole=whole)


def sampled_rows(seen: Tensor, space: int, count: int, seed: int, *, whole: bool = True) -> Tensor:
    """(B, I, *space, ...) -> (B * positions, I * ...): up to `count` positions of each example, the same for each I."""
    at = [p.to(seen.device) for p in points(seen.shape[2 : 2 + space], len(seen), count, seed, whole=whole)]
    example = torch.arange(len(seen), device=seen.device)[:, None]
    taken = seen.movedim(1, 1 + space)[(example, *at)]  # (B, positions, I, ...)
    return taken.reshape(taken.shape[0] * taken.shape[1], -1)
