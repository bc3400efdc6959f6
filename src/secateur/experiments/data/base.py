"""A data set: images and labels in memory, in two parts, with what is needed to feed them to a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import DataError, UnknownName
from secateur.training.loader import Loader

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class Split:
    """Images `x`, (N, C, H, W), uint8 in 0..255 or float32 in 0..1, and labels `y`, (N,) int64.

    Raises DataError if the two do not belong together.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.x.dim() != 4 or self.y.dim() != 1 or len(self.x) != len(self.y):
            raise DataError(
                f"images {list(self.x.shape)} and labels {list(self.y.shape)}: (N, C, H, W) and (N,) needed."
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.y)

    def take(self, indices: Tensor) -> Split:
        """The images at `indices`, in that order."""
        return Split(self.x[indices], self.y[indices])


@dataclass(frozen=True, eq=False)
class Data:
    """A classification data set, split in `train` and `test`.

    `shape` is the (C, H, W) of one image; `mean` and `std` are per channel, of images scaled to 0..1. `augmentation`
    distorts a raw batch (N, C, H, W) with random numbers from the generator given; None where it does not help.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    test: Split
    augmentation: Augment | None = None

    def normalise(self, batch: Tensor) -> Tensor:
        """A raw batch (N, C, H, W), uint8 or float, as the float32 batch that a model is fed."""
        scaled = batch.float() / 255 if batch.dtype == torch.uint8 else batch
        mean, std = (torch.tensor(values, device=batch.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (scaled - mean) / std

    def split(self, name: str) -> Split:
        """The split named "train" or "test". Raises UnknownName."""
        splits = {"train": self.train, "test": self.test}
        if name not in splits:
            raise UnknownName("split", name, splits)
        return splits[name]

    def loader(self, split: str, *, batch_size: int = 128, seed: int = 0, augment: bool = False) -> Loader:
        """Normalised batches of a split; those of "train" are shuffled by `seed`, and distorted if `augment`."""
        images = self.split(split)
        return Loader(
            images.x,
            images.y,
            batch_size=batch_size,
            seed=seed,
            shuffle=split == "train",
            augment=self.augmentation if augment else None,
            transform=self.normalise,
        )

    def example(self, batch: int = 1) -> Tensor:
        """The first `batch` test images, normalised: (batch, C, H, W)."""
        return self.normalise(self.test.x[:batch])

    def split_validation(self, fraction: float = 0.1, seed: int = 0) -> Data:
        """The same data with a part of `train` held out, class by class, as `test`: for choosing without the test set.

        `fraction` is the share of `train` that is held out, above 0 and below 1. Raises DataError for another one.
        """
        kept, held = stratified(self.train.y, fraction, seed)
        return dataclasses.replace(self, train=self.train.take(kept), test=self.train.take(held))


def stratified(y: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the kept and of the held-out part, each ascending; each class gives `fraction` of its own, within one.

    Raises DataError for a fraction that is not above 0 and below 1, or that leaves a part empty.
    """
    if not 0 < fraction < 1:
        raise DataError(f"cannot hold out a fraction of {fraction}: give one above 0 and below 1, such as 0.1.")
    wanted = round(fraction * len(y))
    if not 0 < wanted < len(y):
        raise DataError(f"holding out {fraction} of {len(y)} images leaves a part empty.")
    generator = torch.Generator().manual_seed(seed)
    place = torch.empty(len(y), dtype=torch.float64)  # of each image within its class, in 0..1, in a random order
    for label in y.unique():
        members = (y == label).nonzero().flatten()
        place[members] = (torch.randperm(len(members), generator=generator) + 0.5).double() / len(members)
    order = place.argsort(stable=True)
    return order[wanted:].sort().values, order[:wanted].sort().values
