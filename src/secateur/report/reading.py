"""What the figures say and what they do not, in sentences made from the summary."""

from __future__ import annotations

from dataclasses import dataclass

from .spread import Spread, exceeds, percent, plus_minus
from .summary import Cell, Line, Summary

BASELINE = "random"  # the method every other one has to beat
ARM_NAMES = {"dense": "Dense", "finetune": "Fine-tuned", "scratch-e": "Scratch-E", "scratch-b": "Scratch-B"}
RULE = (
    "A difference is said to exceed the spread when the intervals mean ± s of the two do not overlap, where s is the "
    "sample standard deviation over seeds. This describes these runs; it is no test of significance, and s from a few "
    "seeds is itself uncertain."
)


@dataclass(frozen=True)
class Reading:
    """The sentences about one model at one budget."""

    about: str
    sentences: tuple[str, ...]


def readings(summary: Summary) -> list[Reading]:
    """One reading for each model and budget, in the study's order."""
    pairs = dict.fromkeys((line.model, line.budget) for line in summary.lines)
    made = []
    for model, budget in pairs:
        lines = [x for x in summary.lines if (x.model, x.budget) == (model, budget)]
        said = [s for arm in summary.arms for s in _of_arm(arm, lines, whole(summary, model))]
        said += [_against(arm, lines) for arm in summary.arms if arm != "finetune" and "finetune" in summary.arms]
        made.append(Reading(f"{model} at {budget}", tuple(said)))
    return made


def whole(summary: Summary, model: str) -> Spread:
    """Accuracy of a model's plain dense runs."""
    plain = [c.accuracy for c in summary.dense if c.model == model and c.method is None]
    return plain[0] if plain else Spread.of([])


def cell(line: Line, arm: str) -> Cell | None:
    """The line's cell for an arm, if the study has it and one of its runs is done."""
    return next((c for c in line.cells if c.arm == arm and c.accuracy.n), None)


def _of_arm(arm: str, lines: list[Line], dense: Spread) -> list[str]:
    name = ARM_NAMES[arm]
    cells = [c for line in lines if (c := cell(line, arm))]
    if not cells:
        return [f"{name}: no run is finished."]
    ranked = sorted(cells, key=lambda c: c.accuracy.mean or 0.0)
    low, high = ranked[0], ranked[-1]
    beside = f"; the dense model has {plus_minus(dense)} %" if dense.n else ""
    if len(cells) == 1:
        return [f"{name}: {low.method} reaches {plus_minus(low.accuracy)} % (n = {low.accuracy.n}){beside}."]
    first = f"{name}: from {_with(low)} to {_with(high)}{beside}."
    gap = percent((high.accuracy.mean or 0.0) - (low.accuracy.mean or 0.0))
    second = f"These two, {gap} points apart, {_verdict(exceeds(low.accuracy, high.accuracy))}."
    return [first, second, *_baseline(cells)]


def _with(cell: Cell) -> str:
    return f"{plus_minus(cell.accuracy)} % ({cell.method}, n = {cell.accuracy.n})"


def _verdict(result: bool | None) -> str:
    if result is None:
        return "cannot be held against a spread, which takes two finished seeds of each"
    return "differ by more than the spread over seeds" if result else "do not differ by more than the spread over seeds"


def _baseline(cells: list[Cell]) -> list[str]:
    base = next((c.accuracy for c in cells if c.method == BASELINE), None)
    others = [c for c in cells if c.method != BASELINE and exceeds(c.accuracy, base or c.accuracy) is not None]
    if base is None or not others:
        return []
    beyond = [c for c in others if exceeds(c.accuracy, base)]
    above = [c.method or "" for c in beyond if (c.accuracy.mean or 0.0) > (base.mean or 0.0)]
    below = [c.method or "" for c in beyond if c.method not in above]
    return [f"Beyond the spread of random pruning: above it {_list(above, others)}, below it {_list(below, others)}."]


def _list(names: list[str], of: list[Cell]) -> str:
    return f"{len(names)} of {len(of)} methods ({', '.join(names)})" if names else f"none of {len(of)} methods"


def _against(arm: str, lines: list[Line]) -> str:
    """Fine-tuning against the same widths trained from scratch, method by method."""
    pairs = [(a, b) for line in lines if (a := cell(line, "finetune")) and (b := cell(line, arm))]
    name = ARM_NAMES[arm]
    if not pairs:
        return f"Fine-tuned against {name}: no method has finished runs of both."
    ahead = {True: 0, False: 0}
    beyond = {True: [], False: []}  # type: dict[bool, list[str]]
    for tuned, scratch in pairs:
        gap = (tuned.accuracy.mean or 0.0) - (scratch.accuracy.mean or 0.0)
        if gap:
            ahead[gap > 0] += 1
        if exceeds(tuned.accuracy, scratch.accuracy):
            beyond[gap > 0].append(tuned.method or "")
    means = f"the mean is higher fine-tuned for {ahead[True]} and from scratch for {ahead[False]} of {len(pairs)} methods"
    parts = [f"{', '.join(v)} in favour of {n}" for k, n in ((True, "fine-tuning"), (False, name)) if (v := beyond[k])]
    return f"Fine-tuned against {name}: {means}; beyond the spread: {'; '.join(parts) or 'none'}."
