"""A study's rows, summed up over seeds. Runs that failed or are not finished are kept and named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import StudyError
from ..experiments.store import Row
from .spread import Spread

ARMS = ("dense", "finetune", "scratch-e", "scratch-b")
FIELDS = ("macs", "params", "bytes")


@dataclass(frozen=True)
class Missing:
    """A run without a result: `status` is pending, running or failed; `error` says why it failed."""

    key: str
    label: str
    status: str
    error: str | None


@dataclass(frozen=True)
class Cell:
    """One model, method, budget and arm over its finished seeds. Accuracies and `kept` are fractions.

    Dense runs have no budget, and only `accuracy`; their `method` is None but for methods that work while training.
    """

    model: str
    method: str | None
    budget: str | None
    arm: str
    seeds: tuple[int, ...]
    accuracy: Spread
    accuracy_at_cut: Spread
    accuracy_dense: Spread
    kept: dict[str, Spread]  # macs, params, bytes
    epochs: Spread
    max_error: float | None  # the largest of the verifications
    missing: tuple[Missing, ...]


@dataclass(frozen=True)
class Width:
    """Units of one group before the cut, and after it over seeds."""

    group: str
    size: int
    kept: Spread


@dataclass(frozen=True)
class Line:
    """One model, method and budget: a cell an arm, and what the arms share, which counts once a seed.

    `disagree` lists seeds whose arms were not pruned to the same widths; their first arm counts.
    """

    model: str
    method: str
    budget: str
    cells: tuple[Cell, ...]
    accuracy_at_cut: Spread
    accuracy_dense: Spread
    kept: dict[str, Spread]
    before: dict[str, Spread]  # macs, params, bytes as counts
    after: dict[str, Spread]
    widths: tuple[Width, ...]
    max_error: float | None
    disagree: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """Everything in the order the study lists it; `missing` has every run without a result."""

    models: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: int  # how many were asked for
    dense: tuple[Cell, ...]
    lines: tuple[Line, ...]
    runs: int
    missing: tuple[Missing, ...]


def summarise(rows: list[Row]) -> Summary:
    """Sum up the rows of one study. Raises `StudyError` for rows of several settings, which no mean should mix."""
    settings = {row.run.setting.model_dump_json() for row in rows}
    if len(settings) > 1:
        raise StudyError(f"these {len(rows)} runs have {len(settings)} settings; report one study at a time")
    dense = _split(r for r in rows if r.run.arm == "dense")
    lines = _split((r for r in rows if r.run.arm != "dense"), by_arm=False)
    arms = {row.run.arm for row in rows}
    return Summary(
        models=tuple(dict.fromkeys(row.run.model for row in rows)),
        arms=tuple(a for a in ARMS[1:] if a in arms),
        seeds=len({row.run.seed for row in rows}),
        dense=tuple(_cell(part) for part in dense),
        lines=tuple(_line(part) for part in lines),
        runs=len(rows),
        missing=_missing(rows),
    )


def _split(rows: Iterable[Row], by_arm: bool = True) -> list[list[Row]]:
    """Rows of the same model, budget and method together, in the order they are met."""
    parts: dict[tuple[str | None, ...], list[Row]] = {}
    models: dict[str, int] = {}
    for row in rows:
        run = row.run
        models.setdefault(run.model, len(models))
        parts.setdefault((run.model, run.budget, _method(row), run.arm if by_arm else None), []).append(row)
    budgets = {budget: place for place, budget in enumerate(dict.fromkeys(budget for _, budget, _, _ in parts))}
    return [parts[k] for k in sorted(parts, key=lambda k: (models[str(k[0])], budgets[k[1]]))]


def _method(row: Row) -> str | None:
    return row.run.method.label if row.run.method else None


def _missing(rows: list[Row]) -> tuple[Missing, ...]:
    return tuple(Missing(r.run.key, r.run.label, r.status, r.error) for r in rows if r.result is None)


def _results(rows: list[Row]) -> list[dict[str, Any]]:
    return [r.result for r in rows if r.result is not None]


def _over(results: list[dict[str, Any]], field: str) -> Spread:
    return Spread.of(r[field] for r in results if field in r)


def _kept(results: list[dict[str, Any]]) -> dict[str, Spread]:
    return {f: Spread.of(r["after"][f] / r["before"][f] for r in results if "after" in r) for f in FIELDS}


def _worst(results: list[dict[str, Any]]) -> float | None:
    return max((r["max_error"] for r in results if "max_error" in r), default=None)


def _cell(rows: list[Row]) -> Cell:
    run, results = rows[0].run, _results(rows)
    return Cell(
        model=run.model,
        method=_method(rows[0]),
        budget=run.budget,
        arm=run.arm,
        seeds=tuple(r.run.seed for r in rows if r.result is not None),
        accuracy=_over(results, "accuracy"),
        accuracy_at_cut=_over(results, "accuracy_at_cut"),
        accuracy_dense=_over(results, "accuracy_dense"),
        kept=_kept(results),
        epochs=_over(results, "epochs"),
        max_error=_worst(results),
        missing=_missing(rows),
    )


def _line(rows: list[Row]) -> Line:
    by_seed: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row.result is not None:
            by_seed.setdefault(row.run.seed, []).append(row.result)
    shared = [results[0] for results in by_seed.values()]
    run, arms = rows[0].run, [[r for r in rows if r.run.arm == a] for a in ARMS]
    return Line(
        model=run.model,
        method=_method(rows[0]) or "",
        budget=run.budget or "",
        cells=tuple(_cell(part) for part in arms if part),
        accuracy_at_cut=_over(shared, "accuracy_at_cut"),
        accuracy_dense=_over(shared, "accuracy_dense"),
        kept=_kept(shared),
        before={f: Spread.of(r["before"][f] for r in shared) for f in FIELDS},
        after={f: Spread.of(r["after"][f] for r in shared) for f in FIELDS},
        widths=_widths(shared),
        max_error=_worst(_results(rows)),
        disagree=tuple(seed for seed, results in by_seed.items() if not _same_widths(results)),
    )


def _same_widths(results: list[dict[str, Any]]) -> bool:
    return all(r["widths"] == results[0]["widths"] for r in results)


def _widths(results: list[dict[str, Any]]) -> tuple[Width, ...]:
    sizes = {name: size for r in results for name, size, _ in r["widths"]}
    return tuple(
        Width(name, size, Spread.of(kept for r in results for n, _, kept in r["widths"] if n == name))
        for name, size in sizes.items()
    )
