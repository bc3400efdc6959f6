"""Values of one quantity over seeds: how many, their mean, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

NONE = "–"  # stands for a number that is not known, never for 0


@dataclass(frozen=True)
class Spread:
    """`sd` is the sample standard deviation (n - 1); it is None below two values, the rest is None without any."""

    values: tuple[float, ...]
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of some values, in their order."""
        held = tuple(values)
        if not held:
            return cls((), 0, None, None, None, None)
        sd = statistics.stdev(held) if len(held) > 1 else None
        return cls(held, len(held), statistics.fmean(held), sd, min(held), max(held))


def exceeds(a: Spread, b: Spread) -> bool | None:
    """Whether the intervals mean ± sd do not overlap; None where one of them has fewer than two values.

    This describes the values at hand. It is no test of significance.
    """
    if a.mean is None or b.mean is None or a.sd is None or b.sd is None:
        return None
    return abs(a.mean - b.mean) > a.sd + b.sd


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent, without the sign: 0.9769 is `97.69`."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


def plus_minus(spread: Spread, digits: int = 2) -> str:
    """`97.69 ± 0.16` in percent; `97.69 ± –` for one value, `–` for none."""
    return NONE if spread.mean is None else f"{percent(spread.mean, digits)} ± {percent(spread.sd, digits)}"


def span(spread: Spread, digits: int = 2) -> str:
    """`97.50–97.78`: the lowest and the highest value in percent; empty where there are not two values."""
    return "" if spread.n < 2 else f"{percent(spread.low, digits)}–{percent(spread.high, digits)}"
