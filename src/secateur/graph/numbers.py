"""Numbers: tensors whose values are numbers of indices of an axis, as a top-k gives them, and what is counted by them.

When an index goes, those behind it are renumbered: a tensor of numbers stays exact as long as it is only moved about
and in the end picks, counts or marks indices of that very axis. Whoever reads it otherwise freezes the axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .labels import Axis

# number: each value is the number of an index. mixed: of several axes at once, which nothing can follow. count: zero at
# each index to which no number points. end: counts added up along the axis, so that each is where a run of rows ends.
Word = Literal["number", "mixed", "count", "end"]


@dataclass(frozen=True)
class _Fact:
    tensor: Tensor
    word: Word
    axis: Axis


class Numbers:
    """What is known of the tensors of one forward; of each at most one thing."""

    def __init__(self) -> None:
        self._facts: dict[int, _Fact] = {}  # they hold their tensors, so that no id is used twice

    def enter(self, tensor: Tensor, word: Word, axis: Axis) -> None:
        """The values of `tensor` are about this axis."""
        self._facts[id(tensor)] = _Fact(tensor, word, axis)

    def axis(self, tensor: Tensor, *words: Word) -> Axis | None:
        """The axis that a tensor is about, if in one of these ways."""
        fact = self._facts.get(id(tensor))
        return fact.axis if fact is not None and fact.word in words else None

    def word(self, tensor: Tensor) -> Word | None:
        """In which way a tensor is about an axis."""
        fact = self._facts.get(id(tensor))
        return None if fact is None else fact.word

    def forget(self, tensor: Tensor) -> None:
        """The tensor is written into: what it counted, and what sees its memory, is no longer known."""
        written = tensor.untyped_storage()._cdata
        for key, fact in list(self._facts.items()):
            if fact.word in ("count", "end") and fact.tensor.untyped_storage()._cdata == written:
                del self._facts[key]
