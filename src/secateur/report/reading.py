"""What the figures say and what they do not, in sentences made from the summary."""

from __future__ import annotations

from dataclasses import dataclass

from .spread import Spread, exceeds, percent, plus_minus
from .summary import Cell, Line, Summary

SPACE = "\N{NO-BREAK SPACE}"
BASELINE = "random"  # the method every other one has to beat
ARM_NAMES = {"dense": "Dense", "finetune": "Fine-tuned", "scratch-e": "Scratch-E", "scratch-b": "Scratch-B"}
RULE = (
    "A difference is said to exceed the spread when the intervals mean ± s of the two do not overlap, where s is the "
    "sample standard deviation over seeds. This describes these runs; it is no test of significance, and s from a few "
    "seeds is itself uncertain."
)


@dataclass(frozen=True)
class Reading:
    """What is said about one model at one budget: a paragraph an arm, and one for each pair of arms."""

    about: str
    paragraphs: tuple[str, ...]


def readings(summary: Summary) -> list[Reading]:
    """One reading for each model and budget, in the study's order."""
    pairs = dict.fromkeys((line.model, line.budget) for line in summary.lines)
    made = []
    for model, budget in pairs:
        lines = [x for x in summary.lines if (x.model, x.budget) == (model, budget)]
        said = [" ".join(_of_arm(arm, lines, whole(summary, model))) for arm in summary.arms]
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
    beside = f"; the dense model has {_tight(dense)}" if dense.n else ""
    if len(cells) == 1:
        return [f"{name}: {low.method} reaches {_tight(low.accuracy)} (n{SPACE}={SPACE}{low.accuracy.n}){beside}."]
    first = f"{name}: from {_with(low)} to {_with(high)}{beside}."
    gap = percent((high.accuracy.mean or 0.0) - (low.accuracy.mean or 0.0))
    second = f"These two, {gap} points apart, {_verdict(exceeds(low.accuracy, high.accuracy))}."
    return [first, second, *_baseline(cells)]


def _with(cell: Cell) -> str:
    return f"{_tight(cell.accuracy)} ({cell.method}, n{SPACE}={SPACE}{cell.accuracy.n})"


def _tight(spread: Spread) -> str:
    return f"{plus_minus(spread)} %".replace(" ", SPACE)


def _verdict(result: bool | None) -> str:
    if result is None:
        return "cannot be held against a spread, which takes two finished seeds of each"
    return "differ by more than the spread over seeds" if result else "do not differ by more than the spread over seeds"


def _baseline(cells: list[Cell]) -> list[str]:
    base = next((c.accuracy for c in cells if c.method == BASELINE), None)
    if base is None:
        return []
    others = [c for c in cells if c.method != BASELINE and exceeds(c.accuracy, base) is not None]
    beyond = [c for c in others if exceeds(c.accuracy, base)]
    if others and not beyond:
        return ["No method differs from random pruning by more than the spread."]
    parts = []
    for sign, side in ((1, "Above"), (-1, "Below")):
        names = [c.method or "" for c in beyond if _sign(c.accuracy, base) == sign]
        parts += [f"{side} random pruning by more than the spread: {', '.join(names)}."] if names else []
    return parts


def _against(arm: str, lines: list[Line]) -> str:
    """Fine-tuning against the same widths trained from scratch, method by method."""
    pairs = [(a, b) for line in lines if (a := cell(line, "finetune")) and (b := cell(line, arm))]
    name = ARM_NAMES[arm]
    if not pairs:
        return f"Fine-tuned against {name}: no method has finished runs of both."
    signs = [_sign(a.accuracy, b.accuracy) for a, b in pairs]
    means = f"the mean is higher fine-tuned for {signs.count(1)}, higher from scratch for {signs.count(-1)}"
    means += f", equal for {signs.count(0)} of {len(pairs)} methods" if 0 in signs else f" of {len(pairs)} methods"
    held = [exceeds(a.accuracy, b.accuracy) for a, b in pairs]
    if all(h is None for h in held):
        return f"Fine-tuned against {name}: {means}; one seed of each {_verdict(None)}."
    beyond = []
    for sign, winner in ((1, "fine-tuning"), (-1, name)):
        names = [a.method or "" for (a, _), s, h in zip(pairs, signs, held, strict=True) if h and s == sign]
        beyond += [f"{', '.join(names)} in favour of {winner}"] if names else []
    return f"Fine-tuned against {name}: {means}. Beyond the spread: {'; '.join(beyond) or 'none'}."


def _sign(a: Spread, b: Spread) -> int:
    """Which mean is higher; means of the same values in another order differ by rounding, and count as equal."""
    gap = (a.mean or 0.0) - (b.mean or 0.0)
    return 0 if abs(gap) < 1e-9 else 1 if gap > 0 else -1
