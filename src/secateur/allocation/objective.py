"""What a search is after: the choice of the least objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import BadOption
from ..groups.plan import Plan

Objective = Callable[[Plan], float]  # of a plan, lower is better: such as the loss of the masked model
T = TypeVar("T")


class Tried(Generic[T]):
    """Choices of one search, told apart by their widths and measured once each; `best` is the least, or the first."""

    def __init__(self, measure: Callable[[T], float]) -> None:
        self._measure = measure
        self._seen: dict[tuple[int, ...], float] = {}
        self._least = math.inf
        self.best: T | None = None

    def __call__(self, widths: tuple[int, ...], choice: T) -> float:
        """What a choice measures, lower is better. Raises `BadOption` where that is no number."""
        if widths not in self._seen:
            self._seen[widths] = found = float(self._measure(choice))
            if math.isnan(found):
                raise BadOption(f"objective gives {found} for widths {widths}; give a number, lower is better")
            if self.best is None or found < self._least:
                self.best, self._least = choice, found
        return self._seen[widths]
