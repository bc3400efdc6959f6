"""Random crops and flips, for a whole batch at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4


def crop_and_flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Pad (N, C, H, W) by 4 zeros, crop H x W at random, mirror half of the images: the usual CIFAR augmentation.

    Same dtype and shape out; every image draws its own crop and flip from `generator`, on the device of the batch.
    """
    (count, _, height, width), device = batch.shape, batch.device
    padded = F.pad(batch, (PADDING, PADDING, PADDING, PADDING))
    corners = torch.randint(2 * PADDING + 1, (2, count, 1), generator=generator, device=device)
    mirrored = torch.randint(2, (count, 1), generator=generator, device=device).bool()
    across = torch.arange(width, device=device).expand(count, width)
    rows = corners[0] + torch.arange(height, device=device)
    columns = corners[1] + torch.where(mirrored, across.flip(1), across)
    images = torch.arange(count, device=device).view(-1, 1, 1)
    # Indices with a slice between them put the sliced axis last: (N, H, W, C).
    return padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
