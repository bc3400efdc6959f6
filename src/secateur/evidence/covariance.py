"""Responses: how those of the units of one group vary together from example to example, in float64.

The response of a unit to an example is the largest value that the first layer to read it sees of it, over all
positions. Of fewer examples than units the responses themselves are the smaller thing to hold; of more, the sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import NeedsData
from ..groups.graph import Graph
from ..groups.group import Group
from .base import Collector, Evidence, Fields, Sampling, collector
from .readers import Read


@collector("covariance")
class Covariance(Collector):
    """Of each group, with r a response less that to the first example: `rows` r (examples, units), or, of more examples
    than units, their `sum` (units,) and `outer` products (units, units); `count` of examples.
    """

    reads = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._reader: dict[str, int] = {}  # group -> number of the layer that reads it first
        self._held: dict[str, _Responses] = {}

    def read(self, read: Read) -> None:
        """One more."""
        number = read.reader.contraction.number
        mine = [n for n in read.reader.groups if self._reader.setdefault(n, number) == number]
        if not mine or not read.x.is_floating_point() or not read.x.numel():
            return
        if not read.tell(self.missing, mine):
            return
        largest = read.largest.to("cpu", torch.float64)
        for name in mine:
            index = read.reader.groups[name]
            self._held.setdefault(name, _Responses()).add(largest[:, index].amax(2))

    def values(self) -> dict[str, Fields]:
        """By group."""
        return {name: held.fields() for name, held in self._held.items()}


class _Responses:
    """Rows until there are more of them than columns, then sums."""

    def __init__(self) -> None:
        self._first = self._sum = self._outer = torch.empty(0, dtype=torch.float64)
        self._rows: list[Tensor] = []
        self._count = 0

    def add(self, rows: Tensor) -> None:
        """(examples, units) float64."""
        if not self._count:
            self._first = rows[0]
        self._count += len(rows)
        # Less the first, what does not vary is 0 exactly, and large means lose no digits.
        self._rows.append(rows - self._first)
        if self._count > rows.shape[1]:
            self._fold()

    def _fold(self) -> None:
        rows = torch.cat(self._rows)
        if self._outer.numel():
            self._sum.add_(rows.sum(0))
            self._outer.addmm_(rows.T, rows)
        else:
            self._sum, self._outer = rows.sum(0), rows.T @ rows
        self._rows = []

    def fields(self) -> Fields:
        """As the collector says."""
        count = torch.tensor(self._count)
        if self._outer.numel():
            return {"sum": self._sum, "outer": self._outer, "count": count}
        return {"rows": torch.cat(self._rows), "count": count}


def covariance(group: Group, evidence: Evidence) -> Tensor:
    """(units, units) float64, biased: of the responses of a group's units over all examples.

    Rows of units whose response never varies are 0 exactly. Raises `NeedsData` for fewer than two examples.
    """
    found = _fields(group, evidence)
    if "rows" in found:
        centred = _centred(found)
        return centred.T @ centred / len(centred)
    mean = found["sum"] / found["count"]
    return found["outer"] / found["count"] - torch.outer(mean, mean)


def spectrum(group: Group, evidence: Evidence) -> Tensor:
    """(units,) float64, the eigenvalues of the covariance, largest first. Raises `NeedsData` as `covariance` does."""
    found = _fields(group, evidence)
    values = torch.zeros(group.size, dtype=torch.float64)
    if "rows" in found:
        singular = torch.linalg.svdvals(_centred(found))
        values[: len(singular)] = singular.square() / len(found["rows"])
        return values
    return torch.linalg.eigvalsh(covariance(group, evidence)).flip(0).clamp(min=0)


def _fields(group: Group, evidence: Evidence) -> Fields:
    found = evidence.of("covariance", group.name)
    count = int(found["count"])
    if count < 2:
        raise NeedsData(f"responses vary from example to example, and {count} was given; give at least 2, better many")
    return found


def _centred(found: Fields) -> Tensor:
    """(examples, units)."""
    rows = found["rows"]
    varies = (rows != 0).any(0)  # of zeros the mean is 0, but not of ones that sum up to it by rounding
    return torch.where(varies, rows - rows.mean(0), 0.0)
