"""How well scores follow the oracle: correlations with percentile-bootstrap intervals, over all units and by group.

Pearson's r, Spearman's rho (r of mid-ranks), Kendall's tau-b. A resample is a count of how often each unit was drawn;
the statistics are computed from counts, all resamples at once, as they would be on the units written out. Units are
drawn with replacement, within a group for what is meant over groups. Intervals cover the choice of units, not of
batches, and take units for independent. In small groups Spearman and its interval lean towards 0, Kendall does not: of
normal data with r = 0.7 in 12 groups of 12, 95 % intervals of Spearman held the truth 76 times in 100, Kendall's 97.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BadOption, UnknownName
from ..groups.scores import Scores
from .oracle import Oracle

Floats = NDArray[np.float64]
Against = Literal["squared", "absolute", "change"]
STATISTICS = ("pearson", "spearman", "kendall")
AGAINST = ("squared", "absolute", "change")
LEAST = 5  # units that a group must have in the sample to have a correlation of its own
DEFINED = 0.9  # of the resamples that must have a correlation for an interval to be given
EQUAL = 1e-12  # relative spread up to which values are all the same: what is left is rounding
NO_GROUP = f"no group has {LEAST} units in the sample whose scores, and whose loss changes, are not all the same"
AT_ONCE = 2**22  # numbers held at a time


@dataclass(frozen=True)
class Estimate:
    """A correlation in [-1, 1] with the ends of its interval, or None and why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        ends = "" if self.low is None or self.high is None else f" [{_short(self.low)}, {_short(self.high)}]"
        return f"{_short(self.value)}{ends}"


def _short(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # never -0.00


@dataclass(frozen=True)
class Correlation:
    """Of one criterion: by statistic, over all `units`, and the mean over the `groups` that have one of their own."""

    name: str
    overall: dict[str, Estimate]
    within: dict[str, Estimate]
    units: int
    groups: int


def correlations(
    oracle: Oracle,
    scores: Mapping[str, Scores],
    *,
    against: Against = "squared",
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Correlation]:
    """A line for each {name: scores}, in order.

    `against`: the squared change of the loss (the paper's importance), the absolute one, or the change itself, signed.
    Raises `UnknownName`, `BadOption`, and `PlanError` where scores lack a group that was measured.
    """
    if against not in AGAINST:
        raise UnknownName("side of the oracle", against, AGAINST)
    if resamples < 1 or not 0 < confidence < 1:
        raise BadOption(f"resamples={resamples}, confidence={confidence}: give at least 1, and a fraction such as 0.95")
    truth = getattr(oracle, against).numpy()
    groups = np.unique([name for name, _ in oracle.units], return_inverse=True)[1]
    tails = np.array([1 - confidence, 1 + confidence]) / 2
    found = []
    for name, each in scores.items():
        x = oracle.of(each).numpy()
        parts = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
        parts = [p for p in parts if len(p) >= LEAST and not _same(x[p]) and not _same(truth[p])]
        whole, lacking = [np.arange(len(x))], _undefined(x, truth)
        overall, within = (
            _estimates(x, truth, held, resamples, tails, seed) if not why else none(why)
            for held, why in ((whole, lacking), (parts, "" if parts else NO_GROUP))
        )
        found.append(Correlation(name, overall, within, len(x), len(parts)))
    return found


def none(why: str) -> dict[str, Estimate]:
    """No statistic is defined."""
    return dict.fromkeys(STATISTICS, Estimate(None, why=why))


def _same(x: Floats) -> bool:
    return bool(np.ptp(x) <= EQUAL * np.abs(x).max())


def _undefined(x: Floats, truth: Floats) -> str:
    if len(x) < 3:
        return f"{len(x)} units are too few"
    return "all scores are the same" if _same(x) else "all loss changes are the same" if _same(truth) else ""


def _estimates(
    x: Floats, y: Floats, parts: list[NDArray[np.int64]], resamples: int, tails: Floats, seed: int
) -> dict[str, Estimate]:
    """The mean over parts of the correlations within them, and its interval."""
    generator = np.random.default_rng(seed)
    step = max(1, AT_ONCE // len(x))
    pairs = [(Column(x[p]), Column(y[p])) for p in parts]
    whole = {s: _mean([correlate(s, a, b, np.ones((1, len(a)))) for a, b in pairs]) for s in STATISTICS}
    drawn: dict[str, list[Floats]] = {s: [] for s in STATISTICS}
    for start in range(0, resamples, step):
        counts = [_resample(generator, len(a), min(step, resamples - start)) for a, _ in pairs]
        for s in STATISTICS:
            drawn[s].append(_mean([correlate(s, a, b, c) for (a, b), c in zip(pairs, counts, strict=True)]))
    return {s: _estimate(float(whole[s][0]), np.concatenate(drawn[s]), tails) for s in STATISTICS}


def _resample(generator: np.random.Generator, n: int, resamples: int) -> Floats:
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def _mean(parts: list[Floats]) -> Floats:
    """Over the parts that have a value; NaN where none has."""
    held = np.stack(parts)
    there = ~np.isnan(held)
    number = there.sum(0).astype(np.float64)
    return np.where(there, held, 0).sum(0) / np.where(number > 0, number, np.nan)


def _estimate(value: float, drawn: Floats, tails: Floats) -> Estimate:
    if np.isnan(value):
        return Estimate(None, why="no correlation is defined")
    there = drawn[~np.isnan(drawn)]
    if len(there) < DEFINED * len(drawn):
        return Estimate(value, why=f"no interval: only {len(there)} of {len(drawn)} resamples have a correlation")
    low, high = np.quantile(there, tails)
    return Estimate(value, float(low), float(high))


class Column:
    """Values (n,), standardised, and their codes: equal for equal values, larger for larger ones."""

    def __init__(self, values: Floats) -> None:
        scale = np.abs(values).max() or 1.0
        shrunk = values / scale
        self.values = (shrunk - shrunk.mean()) / (shrunk.std() or 1.0)
        distinct, self.codes = np.unique(values, return_inverse=True)
        self._order = np.argsort(self.codes, kind="stable")
        self._starts = np.searchsorted(self.codes[self._order], np.arange(len(distinct)))

    def __len__(self) -> int:
        return len(self.values)

    def totals(self, counts: Floats) -> Floats:
        """(resamples, distinct values) how often each value was drawn."""
        return np.add.reduceat(counts[:, self._order], self._starts, axis=1)

    def ranks(self, counts: Floats) -> Floats:
        """(resamples, n) the mid-rank of each value in each resample."""
        totals = self.totals(counts)
        return (np.cumsum(totals, 1) - (totals - 1) / 2)[:, self.codes]

    def varies(self, counts: Floats) -> NDArray[np.bool_]:
        """(resamples,) whether two different values were drawn."""
        return (self.totals(counts) > 0).sum(1) > 1


def correlate(statistic: str, x: Column, y: Column, counts: Floats) -> Floats:
    """(resamples,) the statistic where each pair counts so often, (resamples, n); NaN where it is undefined."""
    if statistic == "kendall":
        found = _kendall(x, y, counts)
    elif statistic == "spearman":
        found = _pearson(x.ranks(counts), y.ranks(counts), counts)
    else:
        found = _pearson(x.values, y.values, counts)
    found[~(x.varies(counts) & y.varies(counts))] = np.nan
    return np.clip(found, -1, 1)


def _pearson(x: Floats, y: Floats, counts: Floats) -> Floats:
    size = counts.sum(1, keepdims=True)
    dx, dy = (v - (counts * v).sum(1, keepdims=True) / size for v in (x, y))
    scale = np.sqrt((counts * dx**2).sum(1) * (counts * dy**2).sum(1))
    return np.divide((counts * dx * dy).sum(1), scale, out=np.full(len(counts), np.nan), where=scale > 0)


def _kendall(x: Column, y: Column, counts: Floats) -> Floats:
    """tau-b: (concordant - discordant) / sqrt(pairs not tied in x * pairs not tied in y), over ordered pairs."""
    balance, n = np.zeros(len(counts)), len(x)
    step = max(1, AT_ONCE // n)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        signs = np.sign(x.codes[rows, None] - x.codes) * np.sign(y.codes[rows, None] - y.codes)
        balance += (counts[:, rows] * (counts @ signs.T)).sum(1)
    square = counts.sum(1) ** 2
    untied = [square - (v.totals(counts) ** 2).sum(1) for v in (x, y)]
    scale = np.sqrt(untied[0] * untied[1])
    return np.divide(balance, scale, out=np.full(len(counts), np.nan), where=scale > 0)
