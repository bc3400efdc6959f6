"""Which widths each group may have: the options that every allocator honours."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cost.cost import CostModel
from ..errors import BadBudget, UnknownName
from ..groups.graph import Graph
from ..groups.group import Group
from .base import Allocator

Bound = float | Mapping[str, float]
Multiple = int | Literal["auto"] | Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Bounded(Allocator):
    """An allocator whose widths the user bounds; each option is one value, or {group name or glob: value}.

    `min_keep`: units that a group keeps whatever happens (at least 1), or the fraction of it if below 1. `max_keep`:
    units that it keeps at most, or the fraction if below 1; what is more goes first. `round_to`: widths are multiples
    of it, or whole; "auto": those that measured latency shows to be worth having, than which no wider one is as fast.
    """

    min_keep: float | dict[str, float] = 1
    max_keep: float | dict[str, float] | None = None
    round_to: int | Literal["auto"] | dict[str, int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("min_keep", "max_keep"):
            value = getattr(self, option)
            for number in value.values() if isinstance(value, Mapping) else (value,):
                if number is not None and not 0 < number < math.inf:
                    raise BadBudget(
                        f"{option}={value!r}: a group must keep at least one unit; give units or a fraction"
                    )

    def choices(self, graph: Graph, cost: CostModel) -> Choices:
        """The widths of every group. Raises `BadBudget` for options that exclude each other, `UnknownName`."""
        least = per_group("min_keep", self.min_keep, graph, 1)
        most = per_group("max_keep", self.max_keep or {}, graph, math.inf)
        steps = {} if self.round_to == "auto" else multiples(graph, self.round_to)
        found = {}
        for g in graph.groups:
            low, high = bounds(g, least[g.name], most[g.name])
            auto = self.round_to == "auto" and g.least
            found[g.name] = _quick(g, cost, low, high) if auto else _every(g, steps.get(g.name, 1), low, high)
        return Choices(found)


@dataclass(frozen=True)
class Choices:
    """The widths that each group may have, rising."""

    widths: dict[str, NDArray[np.int64]]

    def down(self, group: str, width: int) -> int:
        """The width brought down to one that may be; the least where all are above it."""
        options = self.widths[group]
        return int(options[max(int(np.searchsorted(options, width, side="right")) - 1, 0)])

    def least(self) -> dict[str, int]:
        """The smallest of each group."""
        return {name: int(options[0]) for name, options in self.widths.items()}

    def most(self) -> dict[str, int]:
        """The largest of each group."""
        return {name: int(options[-1]) for name, options in self.widths.items()}


def bounds(group: Group, min_keep: float, max_keep: float) -> tuple[int, int]:
    """The least and the most units of a group; a residual block may go whatever `min_keep` says.

    Raises `BadBudget` where the least is above the most.
    """
    if not group.least:
        return 0, 1
    low = min(group.size, max(group.least, math.ceil(_of(min_keep, group.size))))
    high = group.size if max_keep >= group.size else max(1, math.floor(_of(max_keep, group.size)))
    if low > high:
        raise BadBudget(
            f"group {group.name!r} of {group.size} units would keep at least {low} (min_keep) and at most {high} "
            "(max_keep); lower min_keep or raise max_keep"
        )
    return low, high


def _of(bound: float, size: int) -> Fraction | int:
    """Units; a fraction as written, for 0.29 * 100 is 28.999... in floats."""
    return Fraction(str(bound)) * size if bound < 1 else int(bound)


def _every(group: Group, step: int, low: int, high: int) -> NDArray[np.int64]:
    """All multiples within bounds, and the whole group; a group smaller than the multiple stays whole."""
    found = np.arange(-(-low // step) * step, high + 1, step)
    if not group.least:
        return np.array([0, 1])
    if not found.size or (high == group.size and found[-1] != high):
        found = np.append(found, high)
    return found


def _quick(group: Group, cost: CostModel, low: int, high: int) -> NDArray[np.int64]:
    """The widths within bounds than which no wider one is as quick; the last of each step of a staircase."""
    options = np.arange(low, high + 1)
    latency = cost.along(group.name, options.tolist(), {}, "latency_ms")
    # From the widest down: what is not quicker than all wider ones is not worth having.
    wider = np.minimum.accumulate(latency[::-1])[::-1]
    worth = np.append(latency[:-1] < wider[1:] * (1 - SAME), True)
    return options[worth]


SAME = 1e-4  # of the model's latency: differences below this are none


def per_group(option: str, value: float | Mapping[str, float], graph: Graph, otherwise: float) -> dict[str, float]:
    """An option given as one number, or as {group name or glob: number}, for every group; the last match counts.

    Raises `UnknownName` for a pattern that no group matches, `BadBudget` for a number that is not positive.
    """
    table = value if isinstance(value, Mapping) else {"*": value}
    found = {g.name: otherwise for g in graph.groups}
    for pattern, number in table.items():
        if not 0 < number < float("inf"):
            raise BadBudget(f"{option}={number!r} for {pattern!r}: give a number above 0")
        hits = fnmatch.filter(found, pattern)
        if not hits and isinstance(value, Mapping):
            raise UnknownName(f"{option}: group", pattern, list(found))
        found |= dict.fromkeys(hits, number)
    return found


def multiples(graph: Graph, round_to: int | Mapping[str, int]) -> dict[str, int]:
    """What the width of each group must be a multiple of."""
    found = per_group("round_to", round_to, graph, 1)
    if any(n != int(n) for n in found.values()):
        raise BadBudget(f"round_to={round_to!r}: widths are whole numbers, give whole multiples")
    return {name: int(n) for name, n in found.items()}


def highest(graph: Graph, scores: Mapping[str, object], widths: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Group name -> the so many units of the highest scores, in rising order; of equal ones the earlier."""
    kept: dict[str, NDArray[np.int64]] = {}
    for g in graph.groups:
        falling = np.argsort(-np.asarray(scores[g.name]), kind="stable")
        kept[g.name] = np.sort(falling[: widths[g.name]])
    return kept


def thinned(options: Iterable[int], count: int) -> list[int]:
    """At most so many of these, evenly chosen, the first and the last among them."""
    held = list(options)
    return [held[i] for i in np.unique(np.linspace(0, len(held) - 1, count).round().astype(int))]
