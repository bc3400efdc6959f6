"""Random crops and flips, for a whole batch at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4


def crop_and_flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Pad (N, C, H, W) by 4 zeros, crop H x W at random, mirror half of the images: the usual CIFAR augmentation.

    Same dtype and shape out; every image draws its own crop and flip from `generator`.
    """
    count, _, height, width = batch.shape
    padded = F.pad(batch, (PADDING, PADDING, PADDING, PADDING))
    corners = torch.randint(2 * PADDING + 1, (2, count, 1), generator=generator)
    mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    rows = corners[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = corners[1] + torch.where(mirrored, columns.flip(1), columns)
    images = torch.arange(count).view(-1, 1, 1)
    # Indices with a slice between them put the sliced axis last: (N, H, W, C).
    return padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
