"""The data that experiments run on: digits, embedded, and CIFAR-10 from a local folder."""

from secateur.experiments.data.base import Data, Split
from secateur.experiments.data.sources import load

__all__ = ["Data", "Split", "load"]
