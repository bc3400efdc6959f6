"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships: no file to fetch, seconds to learn."""

from __future__ import annotations

import torch

from secateur.experiments.data.base import Data, Split, stratified

HELD_OUT = 360
SEED = 0


def digits() -> Data:
    """Digits as floats in 0..1, (1, 8, 8), ten classes, split 1,437 : 360 class by class, always the same way.

    No augmentation: shifts by a pixel gained nothing.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    y = torch.from_numpy(bunch.target).long()
    images = Split(torch.from_numpy(bunch.images).float()[:, None] / 16, y)
    train, test = (images.take(indices) for indices in stratified(y, HELD_OUT / len(y), SEED))
    mean, std = (float(train.x.mean()),), (float(train.x.std()),)
    return Data("digits", 10, (1, 8, 8), mean, std, train, test)
