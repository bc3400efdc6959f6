"""The contract of a criterion, and the reductions over a group's members that criteria share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from ..errors import BadModel, UnknownName
from ..evidence.base import Evidence
from ..groups.group import Group, Source
from ..registry import Options, Registry
from .weights import multiplied

Reduction = Literal["mean", "sum", "first", "max", "min", "l2", "prod"]


@dataclass(frozen=True)
class Criterion(Options):
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
    """Each weight that writes the group, once, and where; projection shortcuts before the rest. Raises `BadModel`.

    Of a weight norm or another parametrization, the weight that the layer multiplies with; what a layer makes of its
    weight in its own forward, as where it standardises it, cannot be seen, and the weight is taken as it is stored.
    """
    once = {s.writer.weight: s for s in group.sources}.values()
    for source in sorted(once, key=lambda s: not s.projection):
        yield weight_of(group, source, evidence), source


def weight_of(group: Group, source: Source, evidence: Evidence) -> Tensor:
    """What the layer multiplies with. Raises `BadModel` where its rows are not those of a parameter."""
    writer = source.writer
    if writer.weight is not None:
        stored = evidence.weight(writer.weight)
        weight = multiplied(evidence, writer.weight)[1] if writer.computed else stored
        if weight.dim() == stored.dim() and weight.shape[writer.weight_axis] == stored.shape[writer.weight_axis]:
            return weight
    raise BadModel(
        f"group {group.name!r} is written by {writer.path!r}, whose weight is computed from others; use a criterion "
        f"that does not look at weights, or frozen={group.name!r}"
    )


def part(weight: Tensor, source: Source, units: slice, dtype: torch.dtype = torch.float64) -> Tensor:
    """What these units hold of a weight, flat, a copy: (units, m * I * kh * kw)."""
    index = source.rows[units]
    at = torch.from_numpy(index.reshape(-1)).to(weight.device)
    taken = weight.index_select(source.writer.weight_axis, at).movedim(source.writer.weight_axis, 0)
    return taken.reshape(len(index), -1).to("cpu", dtype)


def parts(weights: Sequence[Tensor], source: Source) -> Iterator[list[Tensor]]:
    """`part` of each of several tensors of one shape, a few units at a time: none is ever copied whole."""
    units = len(source.rows)
    step = max(1, CHUNK * units // max(weights[0].numel(), 1))
    for a in range(0, units, step):
        yield [part(weight, source, slice(a, a + step)) for weight in weights]


def _rowwise(weight: Tensor, source: Source, f: Callable[[Tensor], Tensor]) -> Tensor:
    """As `f` of all rows."""
    return torch.cat([f(rows) for (rows,) in parts([weight], source)])


def reduce_rows(
    group: Group, evidence: Evidence, f: Callable[[Tensor], Tensor], reduction: Reduction, *, rowwise: bool = False
) -> Tensor:
    """One score per unit from one score per unit and writing layer. `rowwise`: f looks at each row alone.

    "mean" divides each layer's scores by their mean before averaging, so that no layer drowns the others by its scale
    alone. "first" takes one layer alone: the projection shortcut, a 1x1 convolution around a branch, where there is one
    (the first of several), else the first layer that writes. All others take each unit's scores as they are: "sum"
    adds them, "l2" is the root of the sum of their squares, "max", "min" and "prod" are the largest, the smallest and
    the product. Of one layer all are its scores, "l2" without their sign. Raises `UnknownName` for another reduction,
    and `BadModel` for a product that is beyond what floats can hold.
    """
    return combined(list(per_writer(group, evidence, f, rowwise=rowwise)), reduction)


def per_writer(
    group: Group, evidence: Evidence, f: Callable[[Tensor], Tensor], *, rowwise: bool = False
) -> Iterator[Tensor]:
    """`f` of the rows of each weight that writes the group, (units,), projections first. Raises `BadModel`."""
    for weight, source in written(group, evidence):
        yield _rowwise(weight, source, f) if rowwise else f(part(weight, source, slice(None)))


def combined(each: list[Tensor], reduction: Reduction) -> Tensor:
    """(units,) from the (units,) of each writing layer, by the reductions of `reduce_rows`."""
    if reduction not in get_args(Reduction):
        raise UnknownName("reduction", reduction, get_args(Reduction))
    if reduction == "first":
        return each[0]
    if reduction != "mean":
        return _AS_THEY_ARE[reduction](torch.stack(each))
    if len(each) == 1:
        return each[0]
    scale = torch.stack([e.mean() for e in each])
    return torch.stack([e / s if s > 0 else e for e, s in zip(each, scale, strict=True)]).mean(0) * scale.mean()


def _product(each: Tensor) -> Tensor:
    found = each.prod(0)
    sound = (torch.isfinite(each) & (each != 0)).all(0)
    if (sound & ((found == 0) | ~torch.isfinite(found))).any():
        raise BadModel(
            f"reduction='prod': the product of the scores of {len(each)} layers is beyond what floats can hold; use "
            "'mean' or 'sum'"
        )
    return found


_AS_THEY_ARE: dict[str, Callable[[Tensor], Tensor]] = {  # (layers, units) -> (units,)
    "sum": lambda each: each.sum(0),
    "max": lambda each: each.amax(0),
    "min": lambda each: each.amin(0),
    "l2": lambda each: torch.linalg.vector_norm(each, dim=0),
    "prod": _product,
}
