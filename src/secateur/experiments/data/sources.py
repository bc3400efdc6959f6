"""The data sets by name."""

from __future__ import annotations

from collections.abc import Callable

from secateur.errors import DataError, UnknownName
from secateur.experiments.data.base import Data
from secateur.experiments.data.cifar import cifar10
from secateur.experiments.data.digits import digits


def _digits(folder: str) -> Data:
    if folder:
        raise DataError(f"digits come with scikit-learn and take no folder, but got {folder!r}: say just 'digits'.")
    return digits()


SOURCES: dict[str, Callable[[str], Data]] = {"digits": _digits, "cifar10": cifar10}


def load(spec: str) -> Data:
    """The data set that `spec` names: "digits", "cifar10" (in `$SECATEUR_DATA/cifar10`) or "cifar10:FOLDER".

    Raises UnknownName (naming the nearest), DataError for data that is missing or damaged. Nothing is downloaded.
    """
    name, _, folder = spec.partition(":")
    if name not in SOURCES:
        raise UnknownName("data set", name, SOURCES)
    return SOURCES[name](folder)
