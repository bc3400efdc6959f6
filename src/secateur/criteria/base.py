"""The contract of a criterion, and the reductions over a group's members that criteria share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..groups.group import Group, Source
from ..registry import Registry

Reduction = Literal["mean", "sum", "first"]


@dataclass(frozen=True)
class Criterion:
    """Scores the units of one group: `score(group, evidence) -> (units,)`, higher = keep.

    `needs` names the evidence that must be collected first: "weights", or a file of `evidence/` ("gradients",
    "activations", "inputs_gram", ...). `comparable` says whether scores of different groups stand on one scale as they
    are; where they do not, a ranking across groups divides each group's scores by their mean.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    comparable: ClassVar[bool] = False
    units: ClassVar[Literal["width", "depth", "any"]] = "width"  # depth: whole residual blocks

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,) float64."""
        raise NotImplementedError(f"{type(self).__name__} does not define score(group, evidence)")

    def choose(self, group: Group, evidence: Evidence, count: int) -> Tensor | None:
        """(count,) units to keep, where the paper does not keep those with the highest scores; None where it does."""
        return None


CRITERIA: Registry[Criterion] = Registry("criterion", __package__)
criterion = CRITERIA.register


CHUNK = 2**18  # weights that are looked at in float64 at a time


def rows(group: Group, evidence: Evidence) -> Iterator[Tensor]:
    """For each weight that writes the group, once, the part of each unit, flat: (units, m * I * kh * kw) float64.

    Raises `BadModel` where a weight is computed from several, and so is no parameter to look at.
    """
    for weight, source in written(group, evidence):
        yield part(weight, source, slice(None))


def written(group: Group, evidence: Evidence) -> Iterator[tuple[Tensor, Source]]:
    """Each weight that writes the group, once, and where. Raises `BadModel`."""
    for source in {s.writer.weight: s for s in group.sources}.values():
        writer = source.writer
        if writer.weight is None:
            raise BadModel(
                f"group {group.name!r} is written by {writer.path!r}, whose weight is computed from others; use a "
                f"criterion that does not look at weights, or frozen={group.name!r}"
            )
        yield evidence.weight(writer.weight), source


def part(weight: Tensor, source: Source, units: slice, dtype: torch.dtype = torch.float64) -> Tensor:
    """What these units hold of a weight, flat, a copy: (units, m * I * kh * kw)."""
    index = source.rows[units]
    at = torch.from_numpy(index.reshape(-1)).to(weight.device)
    taken = weight.index_select(source.writer.weight_axis, at).movedim(source.writer.weight_axis, 0)
    return taken.reshape(len(index), -1).to("cpu", dtype)


def _rowwise(weight: Tensor, source: Source, f: Callable[[Tensor], Tensor]) -> Tensor:
    """As `f` of all rows, a few rows at a time: large weights are never copied whole."""
    units = len(source.rows)
    step = max(1, CHUNK * units // max(weight.numel(), 1))
    return torch.cat([f(part(weight, source, slice(a, a + step))) for a in range(0, units, step)])


def reduce_rows(
    group: Group, evidence: Evidence, f: Callable[[Tensor], Tensor], reduction: Reduction, *, rowwise: bool = False
) -> Tensor:
    """One score per unit from one score per unit and writing layer. `rowwise`: f looks at each row alone.

    "mean" divides each layer's scores by their mean before averaging, so that no layer drowns the others by its scale
    alone; "sum" adds them as they are; "first" takes the first writing layer.
    """
    found = written(group, evidence)
    return combined([_rowwise(w, s, f) if rowwise else f(part(w, s, slice(None))) for w, s in found], reduction)


def combined(each: list[Tensor], reduction: Reduction) -> Tensor:
    """(units,) from the (units,) of each writing layer, by the reductions of `reduce_rows`."""
    if reduction == "first":
        return each[0]
    if reduction == "sum":
        return torch.stack(each).sum(0)
    if len(each) == 1:
        return each[0]
    scale = torch.stack([e.mean() for e in each])
    return torch.stack([e / s if s > 0 else e for e, s in zip(each, scale, strict=True)]).mean(0) * scale.mean()
