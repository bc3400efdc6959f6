"""A multiple-choice knapsack, solved by frontiers of what is worth its cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Table = tuple[Floats, Floats]  # what each choice costs, and is worth
LENGTH = 1024  # of a frontier; a longer one is thinned
STRETCHES = 4 * LENGTH


def most_worth(tables: Sequence[Table], capacity: float, length: int = LENGTH) -> list[int] | None:
    """One choice of each table, of the largest sum of worth whose sum of costs is at most `capacity`; None if none is.

    Costs may fall and rise along a table. Exact while no frontier is longer than `length`; never over capacity.
    """
    cheapest = np.array([cost.min() for cost, _ in tables])
    after = np.append(np.cumsum(cheapest[::-1])[::-1][1:], 0.0)  # the least that the tables still to come cost
    costs, worths = np.zeros(1), np.zeros(1)
    trail: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for (cost, worth), rest in zip(tables, after, strict=True):
        each, gain = (costs[:, None] + cost).ravel(), (worths[:, None] + worth).ravel()
        place = np.flatnonzero(each <= capacity - rest)
        if not place.size:
            return None
        if place.size < each.size:
            each, gain = each[place], gain[place]
        few = _undominated(each, gain)
        order = few[np.lexsort((-gain[few], each[few]))]
        rising = gain[order]
        front = order[np.append(True, rising[1:] > np.maximum.accumulate(rising)[:-1])]
        if front.size > length:
            front = _thinned(front, each, length)
        costs, worths = each[front], gain[front]
        trail.append(np.divmod(place[front], len(cost)))
    at, chosen = costs.size - 1, []
    for before, choice in reversed(trail):
        chosen.append(int(choice[at]))
        at = int(before[at])
    return chosen[::-1]


def _undominated(cost: Floats, gain: Floats) -> NDArray[np.int64]:
    """Places of those that gain more than all in lower stretches of cost: the few that are worth sorting."""
    low = cost.min()
    span = float(cost.max() - low)
    stretch = ((cost - low) * (STRETCHES / span if span > 0 else 0.0)).astype(np.int64)
    best = np.full(STRETCHES + 2, -np.inf)
    np.maximum.at(best, stretch + 1, gain)
    return np.flatnonzero(gain > np.maximum.accumulate(best)[stretch])


def _thinned(front: NDArray[np.int64], cost: Floats, length: int) -> NDArray[np.int64]:
    """So many of a frontier: in each of equal stretches of cost the last, which is worth the most."""
    held = cost[front]
    stretch = np.floor((held - held[0]) / max(held[-1] - held[0], np.finfo(float).tiny) * (length - 1))
    last = np.append(stretch[1:] != stretch[:-1], True)
    last[0] = True
    return front[last]
