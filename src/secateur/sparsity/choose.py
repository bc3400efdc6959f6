"""Which weights go: scores ranked among all weights, by layer or by row, or as the criterion prunes by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from .base import Laid, WeightCriterion, ready
from .layout import Layout
from .pattern import Pattern, lowest

Amount = Callable[[str, int, int], int]  # (weight or "", how many weights, how many of them are zero already) -> zeros
Chosen = dict[str, tuple[Tensor, Tensor | None]]


def choose(
    criterion: WeightCriterion,
    evidence: Evidence,
    layouts: Mapping[str, Layout | str],
    held: Mapping[str, Tensor],
    pattern: Pattern | None,
    amount: Amount,
) -> Chosen:
    """Name -> (True = kept, the weights after it or None where they stay). `pattern`: None where the criterion counts.

    Raises `BadModel` for scores that are not finite, and weights that the pattern does not fit.
    """
    if pattern is None:
        return {name: (_above(criterion, evidence, name, held.get(name)), None) for name in layouts}
    if pattern.scope == "global":
        return _together(criterion.scores(layouts, evidence), held, amount)
    found: Chosen = {}
    for name, layout in layouts.items():
        mask = held.get(name)
        laid = Laid(name, pattern, layout, 0, mask)
        if pattern.scope == "row":
            zeros = amount(name, laid.matrix_layout.size[1], 0)
        else:
            size = evidence.weight(name).numel()
            zeros = amount(name, size, 0 if mask is None else int((~mask).sum()))
        found[name] = criterion.prune(name, evidence, Laid(name, pattern, layout, zeros, mask))
    return found


def check_runs(layouts: Mapping[str, Layout | str], pattern: Pattern | None) -> None:
    """Raise `BadModel`, naming every weight whose rows do not divide into runs."""
    if pattern is None or pattern.of is None:
        return
    sizes = {n: x.size[1] for n, x in layouts.items() if isinstance(x, Layout) and x.size[1] % pattern.of}
    if sizes:
        told = ", ".join(f"{n!r} has {size} inputs" for n, size in sizes.items())
        raise BadModel(
            f"these weights do not divide into runs of {pattern.of} for each output: {told}; leave them dense with "
            f"exclude={list(sizes)}, or give another of="
        )


def _above(criterion: WeightCriterion, evidence: Evidence, name: str, held: Tensor | None) -> Tensor:
    threshold = criterion.threshold(name, evidence)
    assert threshold is not None, f"{criterion.name} counts by itself, and gives no threshold"
    mask = ready(criterion.score(name, evidence), name, None) >= threshold
    return mask if held is None else mask & held.to(mask.device)


def _together(scores: Mapping[str, Tensor], held: Mapping[str, Tensor], amount: Amount) -> Chosen:
    """One ranking; of equal scores the first of the first layer goes first."""
    flat = {name: ready(s, name, held.get(name)).flatten().cpu() for name, s in scores.items()}
    gone_before = sum(int((~held[n]).sum()) for n in scores if n in held)
    gone = lowest(torch.cat(list(flat.values())), amount("", sum(map(len, flat.values())), gone_before))
    parts = gone.split([len(s) for s in flat.values()])
    masks = {n: ~part.reshape(s.shape) for (n, s), part in zip(scores.items(), parts, strict=True)}
    return {n: (m & held[n].cpu() if n in held else m, None) for n, m in masks.items()}
