"""Saliency of merging. Srinivas & Babu, "Data-free parameter pruning for Deep Neural Networks", BMVC 2015 (1507.06149):
how far outputs may move when unit j goes and unit i, the most similar to it, takes over its outgoing weights.

Claim: s_ij = <a_j^2> |w_i - w_j|^2 (w: what a unit computes, with its bias; a: what reads it), times the mean square of
the inputs, bounds the mean squared change of the outputs where the activation is 1-Lipschitz; no data is needed.
Removing small units is the special case w_i = 0. Departures: w is taken with the batch norm behind a layer folded in;
where several layers write or read a group, all their rows, or columns, stand side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..groups.folded import folded_rows
from ..groups.group import Group
from .base import CHUNK

NEAR = 1e-6  # of squared lengths: below, a difference of products is not exact enough
FREE = 1e-9  # of the median: merges that cost less do not count where to stop


class Step(NamedTuple):
    """Unit `unit` goes, unit `into` takes over `factor` times what reads it, at this saliency."""

    unit: int
    into: int
    factor: float
    saliency: float


def compare(rows: Tensor, *, scaled: bool = False) -> tuple[Tensor, Tensor]:
    """(units, d) -> factors c and squared distances |w_j - c w_i|^2, at [i, j] of (units, units) each.

    c = 1, or, `scaled`, the nearest that is not negative: max(0, <w_i, w_j> / |w_i|^2).
    """
    products = rows @ rows.T
    squares = products.diagonal()
    factors = torch.ones_like(products)
    if scaled:
        factors = (products / squares[:, None].where(squares[:, None] > 0, math.inf)).clamp_min(0)
    lengths = squares + factors**2 * squares[:, None]
    distances = (lengths - 2 * factors * products).clamp_min(0)
    near = distances < NEAR * lengths
    near.fill_diagonal_(False)
    for j in near.any(0).nonzero().flatten().tolist():
        i = near[:, j].nonzero().flatten()
        distances[i, j] = (rows[j] - factors[i, j, None] * rows[i]).square().sum(1)
    return factors, distances


class Saliency:
    """Of one group, while its units are merged one by one: `matrix[i, j]` is what it costs that j goes into i."""

    def __init__(
        self, rows: Tensor, outgoing: Tensor, entries: int, *, scaled: bool = False, kin: Tensor | None = None
    ) -> None:
        """`rows` (units, d): what units compute. `outgoing` (units, units): products of the `entries` weights that read
        them. `kin` (units,): only units with the same number are merged."""
        self.factors, self._distances = compare(rows, scaled=scaled)
        self._distances.fill_diagonal_(math.inf)
        if kin is not None:
            self._distances[kin[:, None] != kin] = math.inf
        self._outgoing, self._entries = outgoing.clone(), entries
        self._lengths = rows.square().sum(1)
        self.matrix = self._cost(slice(None))
        self._lowest, self._into = self.matrix.min(0)

    def _cost(self, units: slice | int) -> Tensor:
        """(units, of these): <a_j^2> * distance, and never of what must not be."""
        means = self._outgoing.diagonal()[units].clamp_min(0) / max(self._entries, 1)
        distances = self._distances[:, units]
        return torch.where(distances.isinf(), math.inf, means * distances)

    def alone(self) -> Tensor:
        """(units,): what it costs that each goes and none takes over, w_i = 0."""
        return self._outgoing.diagonal().clamp_min(0) / max(self._entries, 1) * self._lengths

    def lowest(self) -> Step | None:
        """The cheapest merge; None where there is none left."""
        unit = int(self._lowest.argmin())
        into, saliency = int(self._into[unit]), float(self._lowest[unit])
        return None if saliency == math.inf else Step(unit, into, float(self.factors[into, unit]), saliency)

    def merge(self, step: Step) -> None:
        """What reads `into` gains factor * what reads `unit`, which goes; the column of `into` is computed anew."""
        unit, into = step.unit, step.into
        self._outgoing[into] += step.factor * self._outgoing[unit]
        self._outgoing[:, into] += step.factor * self._outgoing[:, unit]
        self.matrix[:, into] = self._cost(into)
        for gone in (self.matrix, self._distances):
            gone[unit] = gone[:, unit] = math.inf
        stale = (self._into == unit).index_fill(0, torch.tensor([unit, into]), True)
        self._lowest[stale], self._into[stale] = self.matrix[:, stale].min(0)

    def steps(self) -> Iterator[Step]:
        """Merge the cheapest until none is left."""
        while (step := self.lowest()) is not None:
            self.merge(step)
            yield step


def saliency_of(group: Group, evidence: Evidence, *, scaled: bool = False, kin: Tensor | None = None) -> Saliency:
    """Of a group as it is. Raises `BadModel` where a weight that writes it is computed, or no weight reads it."""
    outgoing, entries = torch.zeros(group.size, group.size, dtype=torch.float64), 0
    for member in group.members:
        if member.reads:
            weight = evidence.weight(member.tensor)
            index = torch.from_numpy(member.index.reshape(-1)).to(weight.device)
            columns = weight.index_select(member.axis, index).movedim(member.axis, 0).reshape(group.size, -1)
            entries += columns.shape[1]
            for part in columns.split(max(1, CHUNK // group.size), 1):
                part = part.cpu().double()
                outgoing += part @ part.T
    if not entries:
        raise BadModel(f"no weight reads group {group.name!r}, so that none could be merged; use another criterion")
    return Saliency(folded_rows(group, evidence.model), outgoing, entries, scaled=scaled, kin=kin)


def cutoff(saliencies: Sequence[float]) -> float:
    """Where merging a group should stop: the mode of a Gaussian fitted to the histogram of the logarithms of these.

    The logarithm, for the last merges cost orders of magnitude more than the first. Bins are as wide as Freedman and
    Diaconis advise, the fit is by least squares; merges that cost nothing beside the median are left out, for they are
    never in question. Where the quartiles agree, it is the median.
    """
    values = np.asarray(saliencies, dtype=np.float64)
    middle = float(np.median(values))
    logs = np.log(values[values > FREE * middle])
    low, high = np.quantile(logs, [0.25, 0.75]) if logs.size else (0.0, 0.0)
    if not high > low:
        return middle
    width = 2 * float(high - low) / logs.size ** (1 / 3)
    bins = math.ceil(float(np.ptp(logs)) / width)
    # Empty bins on both sides: to a histogram that falls from its first bin on, any mode below would fit as well.
    first = float(logs.min())
    counts, edges = np.histogram(logs, bins=3 * bins, range=(first - bins * width, first + 2 * bins * width))
    centres = (edges[1:] + edges[:-1]) / 2

    def misfit(p: Any) -> Any:
        return p[0] * np.exp(-(((centres - p[1]) / p[2]) ** 2) / 2) - counts

    start = [float(counts.max()), float(centres[counts.argmax()]), width]
    least, most = [0.0, float(logs.min()), width / 2], [math.inf, float(logs.max()), float(np.ptp(logs))]
    fit = least_squares(misfit, np.clip(start, least, most), bounds=(least, most))
    return math.exp(float(fit.x[1]))


def until_cutoff(steps: Sequence[Step]) -> list[Step]:
    """Of all merges of a group in turn, those before the first that costs more than their cut-off."""
    limit = cutoff([step.saliency for step in steps]) if steps else 0.0
    return list(takewhile(lambda step: step.saliency <= limit, steps))


def turns(steps: Sequence[Sequence[Step]], scales: Sequence[float]) -> NDArray[np.int64]:
    """(merges,) whose turn it is, by number: each time that of the group whose next merge is the cheapest, all
    saliencies of a group divided by its scale."""
    keys, groups = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for number, (held, scale) in enumerate(zip(steps, scales, strict=True)):
        # A merge waits for the dearer ones before it in its group.
        keys.append(np.maximum.accumulate(np.array([s.saliency / scale for s in held])))
        groups.append(np.full(len(held), number))
    group = np.concatenate(groups)
    return group[np.lexsort((group, np.concatenate(keys)))]
