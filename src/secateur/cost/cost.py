"""Cost: multiply-accumulates, parameters and bytes, as polynomials of the group widths read from the trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ..errors import BadBudget
from ..graph.labels import Axis
from ..groups.graph import Graph
from .latency import Latency, Predictor, Row
from .ops import Timed, timed


@dataclass(frozen=True)
class Cost:
    """What one forward on the example costs, and what the weights take."""

    macs: int  # multiply-accumulates of convolutions and matrix products
    params: int
    bytes: int  # parameters and buffers as stored
    activations: int = 0  # bytes of activations, at the op of the forward where they are most
    latency_ms: float | None = None  # of one forward, predicted from what was measured here; None where nothing was

    def __str__(self) -> str:
        took = "" if self.latency_ms is None else f", {self.latency_ms:.4g} ms"
        return f"{short(self.macs)} MACs, {short(self.params)} params, {short(self.bytes)}B{took}"

    def as_dict(self) -> dict[str, float]:
        """Field name to value; latency only where it is known."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


def short(n: float) -> str:
    """A number with a metric suffix: 41.3 M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= limit:
            return f"{n / limit:.4g} {suffix}"
    return f"{n:.4g} "


class CostModel:
    """The cost of any widths, without touching the model: sum over terms of coefficient x product of axis lengths.

    With `latency`, also the milliseconds that are to be expected; without it, `latency_ms` is None.
    """

    def __init__(self, graph: Graph, latency: Latency | None = None) -> None:
        self._groups = [g.name for g in graph.groups]
        self._sizes = np.array([g.size for g in graph.groups], dtype=np.float64)
        self._owner = np.full(int(graph.trace.classes.max()) + 1, -1, dtype=np.int64)
        for number, group in enumerate(graph.groups):
            self._owner[group.classes] = number
        self._classes = graph.trace.classes
        self._lines: dict[int, int] = {}
        self._rows: list[NDArray[np.float64]] = [self._constant(1)]
        tensors = self._tensors(graph)
        self._kinds = [t.kind for t in graph.trace.terms]
        depth = [[graph.trace.residuals[n].axis for n in self._inside(graph, t.path)] for t in graph.trace.terms]
        terms = [(t.coefficient, (*t.axes, *d)) for t, d in zip(graph.trace.terms, depth, strict=True)]
        self._macs = self._compile(terms)
        self._params = self._compile([(1, axes) for axes, _, is_parameter in tensors if is_parameter])
        self._bytes = self._compile([(size, axes) for axes, size, _ in tensors])
        held = graph.trace.storages
        self._memory = self._compile([(s.item, s.axes) for s in held])
        self._born = np.array([s.born for s in held], dtype=np.int64)
        self._last = np.array([s.last for s in held], dtype=np.int64)
        self._predictor = None if latency is None else Predictor(latency, self._timed(graph, depth))
        self._around: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None  # lengths, and terms looked up
        self._matrix = csr_array(np.stack(self._rows))  # nearly empty: each line is of few groups

    def timed(self, graph: Graph) -> list[Timed]:
        """The op of each term, and which of its lengths a plan may change."""
        live = [[bool(self._rows[self._line(axis)][:-1].any()) for axis in t.axes] for t in graph.trace.terms]
        return [timed(t, alive) for t, alive in zip(graph.trace.terms, live, strict=True)]

    def _timed(self, graph: Graph, depth: list[list[Axis]]) -> list[Row]:
        """The same with the lines that give those lengths; a residual block that goes takes its terms along."""
        found = []
        for term, one, blocks in zip(graph.trace.terms, self.timed(graph), depth, strict=True):
            scaled = [(self._line(term.axes[i]), term.axes[i].size) for i in one.scaled]
            scaled += [(self._line(axis), 1) for axis in blocks]
            found.append(Row(one, tuple(self._line(term.axes[i]) for i in one.axes), tuple(scaled)))
        return found

    def _tensors(self, graph: Graph) -> list[tuple[tuple[Axis, ...], int, bool]]:
        parameters = dict(graph.model.named_parameters())
        held = parameters | dict(graph.model.named_buffers())
        paths: dict[int, set[str]] = {}
        for name, parameter in graph.model.named_parameters(remove_duplicate=False):
            paths.setdefault(id(parameter), set()).add(name)
        found = []
        for name, axes in graph.trace.tensors.items():
            inside = {self._inside(graph, p) for p in paths.get(id(held[name]), {name})}
            deep = inside.pop() if len(inside) == 1 else ()  # what is shared with others stays without the block
            residuals = tuple(graph.trace.residuals[number].axis for number in deep)
            found.append(((*axes, *residuals), held[name].element_size(), name in parameters))
        return found

    @staticmethod
    def _inside(graph: Graph, path: str) -> tuple[int, ...]:
        """The number of the residual block that holds a module or tensor, if one does."""
        return tuple(n for n, r in enumerate(graph.trace.residuals) if f"{path}.".startswith(f"{r.path}."))

    def _constant(self, value: float) -> NDArray[np.float64]:
        row = np.zeros(len(self._groups) + 1)
        row[-1] = value
        return row

    def _line(self, axis: Axis) -> int:
        """Row of the matrix that gives the length of an axis: a constant plus so many indices a unit of each group."""
        if id(axis) not in self._lines:
            owner = np.where(axis > 0, self._owner[self._classes[axis]], -1)
            row = self._constant(float((owner < 0).sum()))
            if len(self._groups):
                row[:-1] = np.bincount(owner[owner >= 0], minlength=len(self._groups)) / self._sizes
            self._lines[id(axis)] = len(self._rows)
            self._rows.append(row)
        return self._lines[id(axis)]

    def _compile(self, terms: list[tuple[int, tuple[Axis, ...]]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        depth = max((len(axes) for _, axes in terms), default=1) or 1
        lines = np.zeros((len(terms), depth), dtype=np.int64)  # row 0 is the constant 1
        for i, (_, axes) in enumerate(terms):
            lines[i, : len(axes)] = [self._line(a) for a in axes]
        return lines, np.array([c for c, _ in terms], dtype=np.float64)

    def _vector(self, widths: Mapping[str, int]) -> NDArray[np.float64]:
        sizes = self._sizes
        given = [widths.get(g, s) for g, s in zip(self._groups, sizes, strict=True)]
        return np.array([*given, 1.0], dtype=np.float64)

    def at(self, widths: Mapping[str, int]) -> Cost:
        """The cost when groups have these widths; groups not named are whole."""
        lengths = self._matrix @ self._vector(widths)
        macs, params, held = (
            round(float(c @ lengths[lines].prod(1))) for lines, c in (self._macs, self._params, self._bytes)
        )
        took = None if self._predictor is None else float(self._latency(lengths[:, None])[0])
        return Cost(macs, params, held, self._peak(lengths), took)

    def _latency(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """(options,) milliseconds from (lines, options) lengths. Raises `BadBudget` where no latency was measured."""
        if self._predictor is None:
            raise BadBudget("latency was not measured: give latency=secateur.measure_latency(graph, engine=...)")
        found: NDArray[np.float64] = self._predictor.fit @ self._features(self._predictor, lengths)
        return found

    def _features(self, predictor: Predictor, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        return predictor.features(lengths, *self._gigabytes(lengths))

    def _gigabytes(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, options) of all activations together, and of weights."""
        return np.stack([c @ lengths[lines].prod(1) / 1e9 for lines, c in (self._memory, self._bytes)])

    def latency_features(self, widths: Mapping[str, int]) -> NDArray[np.float64]:
        """What the fit of the latency weighs, of `cost.latency.FEATURES`. Raises `BadBudget` without latency."""
        if self._predictor is None:
            raise BadBudget("latency was not measured, and there is nothing to fit")
        return self._features(self._predictor, (self._matrix @ self._vector(widths))[:, None])[:, 0]

    def _peak(self, lengths: NDArray[np.float64]) -> int:
        """Bytes of what is alive at the op where that is most; an op's inputs and outputs are alive with it."""
        lines, items = self._memory
        if not items.size:
            return 0
        sizes = items * lengths[lines].prod(1)
        change = np.zeros(int(self._last.max()) + 2)
        np.add.at(change, self._born, sizes)
        np.subtract.at(change, self._last + 1, sizes)
        return round(float(change.cumsum().max()))

    def along(self, group: str, options: Sequence[int], widths: Mapping[str, int], field: str) -> NDArray[np.float64]:
        """(options,) one field of the cost when a group has each of these widths, and the others `widths`."""
        vectors = np.repeat(self._vector(widths)[:, None], len(options), axis=1)
        number = self._groups.index(group)
        vectors[number] = options
        lengths = self._matrix @ vectors
        if field == "latency_ms" and self._predictor is not None:
            return self._latency_along(self._predictor, number, lengths, self._matrix @ self._vector(widths))
        return self._field(lengths, field)

    def _latency_along(
        self, predictor: Predictor, group: int, lengths: NDArray[np.float64], around: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """As `_latency`, where only one group is wider or narrower than around: only its terms are looked up."""
        if self._around is None or not np.array_equal(self._around[0], around):
            self._around = around, predictor.looked_up(around[:, None])
        before = self._around[1]
        touched = predictor.touching(self._matrix[:, [group]].toarray()[:, 0] > 0)
        change = predictor.looked_up(lengths, touched) - before[touched]
        terms = predictor.counted(before) + predictor.counted(change, touched)
        found: NDArray[np.float64] = predictor.fit[0] + terms + predictor.fit[-2:] @ self._gigabytes(lengths)
        return found

    def of(self, plans: Sequence[Mapping[str, int]], fields: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        """Field -> (plans,) the cost of each of several widths."""
        lengths = self._matrix @ np.stack([self._vector(widths) for widths in plans], axis=1)
        return {field: self._field(lengths, field) for field in fields}

    def _field(self, lengths: NDArray[np.float64], field: str) -> NDArray[np.float64]:
        if field == "latency_ms":
            return self._latency(lengths)
        if field == "activations":
            return np.array([self._peak(column) for column in lengths.T], dtype=np.float64)
        lines, coefficients = {"macs": self._macs, "params": self._params, "bytes": self._bytes}[field]
        return np.round(coefficients @ lengths[lines].prod(1))

    def macs_by_kind(self, widths: Mapping[str, int]) -> dict[str, int]:
        """Multiply-accumulates of convolutions ("conv"), layers ("linear") and other products ("matmul")."""
        lengths = self._matrix @ self._vector(widths)
        lines, coefficients = self._macs
        each = coefficients * lengths[lines].prod(1)
        return {k: round(float(each[[kind == k for kind in self._kinds]].sum())) for k in sorted(set(self._kinds))}

    def dense(self) -> Cost:
        """The cost of the whole model."""
        return self.at({})

    def per_unit(self, field: str = "macs") -> dict[str, float]:
        """What removing the first unit of each group alone would save."""
        whole = getattr(self.dense(), field)
        return {
            g: whole - getattr(self.at({g: int(s) - 1}), field) for g, s in zip(self._groups, self._sizes, strict=True)
        }
