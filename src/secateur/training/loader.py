"""Batches as a pure function of (seed, epoch, step), so that a run resumed in mid-epoch sees exactly the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from secateur.errors import DataError
from secateur.training.seeds import child_seed

Augment = Callable[[Tensor, torch.Generator], Tensor]
Transform = Callable[[Tensor], Tensor]


class Loader:
    """Batches `(x, y)` of tensors held in memory.

    `x` and `y` have one row per example and any dtype. `augment(x, generator)` is for random changes and must draw
    from its generator only; `transform(x)` is for fixed ones, such as normalisation to float, and comes after it.
    The order of epoch e depends on (seed, e) alone, the augmentation of step s on (seed, e, s) alone.

    Iterating over the loader itself gives epoch 0. For evaluation use `shuffle=False` and no `augment`.

    Raises DataError for rows that do not match, for a batch size below 1, and where no batch would come out.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        augment: Augment | None = None,
        transform: Transform | None = None,
        drop_last: bool = False,
    ) -> None:
        if len(x) != len(y):
            raise DataError(f"x has {len(x)} rows and y has {len(y)}: each example needs one row in both.")
        if batch_size < 1:
            raise DataError(f"batch_size={batch_size}: a batch holds at least 1 example.")
        if len(x) < (batch_size if drop_last else 1):
            raise DataError(f"{len(x)} examples give no batch of {batch_size} with drop_last={drop_last}.")
        self.examples, self.batch_size, self.seed = len(x), batch_size, seed
        self.shuffle, self.drop_last, self.augment, self.transform = shuffle, drop_last, augment, transform
        self._rows: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda rows: (x[rows], y[rows])

    @classmethod
    def of(
        cls,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        augment: Augment | None = None,
        transform: Transform | None = None,
        drop_last: bool = False,
    ) -> Loader:
        """The same over a map-style dataset of pairs `(x, y)`, read and stacked one batch at a time.

        Random transforms inside the dataset are reproducible under `fit`, which seeds all generators at each step.
        """
        rows = torch.arange(len(dataset))  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to the map-style ones
        options = {"seed": seed, "shuffle": shuffle, "augment": augment, "transform": transform}
        loader = cls(rows, rows, batch_size=batch_size, drop_last=drop_last, **options)  # type: ignore[arg-type]
        loader._rows = lambda rows: _stacked(dataset, rows)
        return loader

    def __len__(self) -> int:
        """Steps per epoch."""
        return self.examples // self.batch_size if self.drop_last else -(-self.examples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Epoch 0."""
        return self.epoch(0)

    def size(self, step: int) -> int:
        """Examples in the batch of this step of an epoch, over all ranks together."""
        return min(self.batch_size, self.examples - step * self.batch_size)

    def epoch(self, e: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `e` from step `start` on; with several processes, every `world`-th row of each."""
        order = torch.arange(self.examples)
        if self.shuffle:
            order = torch.randperm(self.examples, generator=_generator(self.seed, "order", e))
        for step in range(start, len(self)):
            rows = order[step * self.batch_size :][: self.batch_size]
            yield self._batch(rows, slice(rank, None, world), child_seed(self.seed, "augment", e, step))

    def _batch(self, rows: Tensor, mine: slice, seed: int) -> tuple[Tensor, Tensor]:
        if self.augment is None:
            x, y = self._rows(rows[mine])
        else:  # of the whole batch, so that the same examples get the same augmentation on any number of processes
            x, y = self._rows(rows)
            x, y = self.augment(x, torch.Generator(x.device).manual_seed(seed))[mine], y[mine]
        return (self.transform(x) if self.transform else x), y


def _generator(seed: int, *labels: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(child_seed(seed, *labels))


def _stacked(dataset: Dataset[Any], rows: Tensor) -> tuple[Tensor, Tensor]:
    pairs = [dataset[row] for row in rows.tolist()]
    return torch.stack([torch.as_tensor(x) for x, _ in pairs]), torch.stack([torch.as_tensor(y) for _, y in pairs])
