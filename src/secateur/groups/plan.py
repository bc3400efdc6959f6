"""Plan: pure data, an ordered list of edits; it can be printed, edited by hand, stored, replayed on a fresh model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..errors import PlanError
from .graph import Graph


class _Edit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _speak_our_language(cls, values: Any, build: ModelWrapValidatorHandler[_Edit]) -> _Edit:
        try:
            return build(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise PlanError(
                f"no {cls.__name__.lower()} can be made of {where}={first['input']!r}: {first['msg']}"
            ) from error


def _ordered(units: tuple[int, ...]) -> tuple[int, ...]:
    if sorted(set(units)) != list(units) or (units and units[0] < 0):
        raise ValueError("units must be different, not negative, and in rising order")
    return units


class Keep(_Edit):
    """Keep these units of a group, and no others."""

    edit: Literal["keep"] = "keep"
    group: str
    units: tuple[int, ...]

    @field_validator("units")
    @classmethod
    def _at_least_one(cls, units: tuple[int, ...]) -> tuple[int, ...]:
        if not units:
            raise ValueError("a group must keep at least one unit")
        return _ordered(units)


class Drop(_Edit):
    """Drop a whole residual block: what it gives is what it was given."""

    edit: Literal["drop"] = "drop"
    block: str


class Fold(_Edit):
    """What a layer saw of removed units was this constant: add it to the layer's bias (or to the mean of its norm)."""

    done: ClassVar[str] = "folded"
    edit: Literal["fold"] = "fold"
    group: str
    reader: str  # name of the weight that reads the units
    units: tuple[int, ...]
    constants: tuple[tuple[FiniteFloat, ...], ...]  # (units, m): one for each position that a unit holds in the reader

    @field_validator("units")
    @classmethod
    def _in_order(cls, units: tuple[int, ...]) -> tuple[int, ...]:
        return _ordered(units)

    @model_validator(mode="after")
    def _one_each(self) -> Fold:
        if len(self.constants) != len(self.units):
            raise ValueError(f"{len(self.units)} units and constants for {len(self.constants)}")
        return self


class Merge(_Edit):
    """Each of these units goes and one that stays takes over: where a layer reads the latter, factor * the weight of
    the former is added."""

    done: ClassVar[str] = "merged"
    edit: Literal["merge"] = "merge"
    group: str
    units: tuple[int, ...]  # a `Keep` of the group leaves them out
    into: tuple[int, ...]  # and keeps these, one for each
    factors: tuple[FiniteFloat, ...] = Field(default=(), validate_default=True)  # one for each; 1 if not given

    @field_validator("units")
    @classmethod
    def _in_order(cls, units: tuple[int, ...]) -> tuple[int, ...]:
        return _ordered(units)

    @field_validator("into", "factors")
    @classmethod
    def _one_each(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        units = info.data.get("units", ())
        values = values or ((1.0,) * len(units) if info.field_name == "factors" else ())
        if len(values) != len(units):
            raise ValueError(f"{len(units)} units and {info.field_name} for {len(values)}")
        return values

    @classmethod
    def chained(cls, group: str, steps: Iterable[tuple[int, int, float]]) -> Merge:
        """Merges made one after another, (unit, into, factor) each: a unit that was merged into one that went later
        goes to where that one went, with the product of the factors. Raises `PlanError` for a unit that goes twice."""
        ends: dict[int, tuple[int, float]] = {}
        for unit, into, factor in reversed(list(steps)):
            if unit in ends:
                raise PlanError(f"unit {unit} of group {group!r} is merged twice; a unit goes only once")
            end, onward = ends.get(into, (into, 1.0))
            ends[unit] = (end, factor * onward)
        units = tuple(sorted(ends))
        return cls(
            group=group,
            units=units,
            into=tuple(ends[u][0] for u in units),
            factors=tuple(ends[u][1] for u in units),
        )


Edit = Annotated[Keep | Drop | Fold | Merge, Field(discriminator="edit")]


class Plan(_Edit):
    """An ordered list of edits. Groups that no `Keep` names stay whole."""

    edits: tuple[Edit, ...] = ()

    @property
    def kept(self) -> dict[str, NDArray[np.int64]]:
        """Units kept of each group that an edit names; none of a block that is dropped."""
        widths = {e.group: np.array(e.units, dtype=np.int64) for e in self.edits if isinstance(e, Keep)}
        return widths | {e.block: np.zeros(0, dtype=np.int64) for e in self.edits if isinstance(e, Drop)}

    @property
    def folds(self) -> tuple[Fold, ...]:
        """The constant foldings."""
        return tuple(e for e in self.edits if isinstance(e, Fold))

    @property
    def merges(self) -> dict[str, Merge]:
        """The merge of each group that has one."""
        return {e.group: e for e in self.edits if isinstance(e, Merge)}

    @classmethod
    def keeping(cls, graph: Graph, kept: Mapping[str, Iterable[int]]) -> Plan:
        """A plan that keeps these units of these groups; groups kept whole need no edit.

        Raises `PlanError` for units that the group does not have, `UnknownName` for a group that does not exist.
        """
        edits = tuple(_edit(graph, name, tuple(int(u) for u in units)) for name, units in kept.items())
        plan = cls(edits=tuple(e for e in edits if isinstance(e, Drop) or len(e.units) < graph[e.group].size))
        cls(edits=edits).check(graph)
        return plan

    def check(self, graph: Graph) -> None:
        """Raise `PlanError` unless every edit fits the graph."""
        seen: set[str] = set()
        for edit in self.edits:
            if isinstance(edit, Drop):
                if graph[edit.block].kind != "depth":
                    raise PlanError(f"{edit.block!r} is no residual block that could be dropped, but a group of units")
                continue
            size = graph[edit.group].size
            if edit.units and edit.units[-1] >= size:
                raise PlanError(f"group {edit.group!r} has {size} units, the plan asks for unit {edit.units[-1]}")
            if isinstance(edit, Keep):
                if edit.group in seen:
                    raise PlanError(f"the plan keeps units of group {edit.group!r} twice; give one edit a group")
                seen.add(edit.group)
                if len(edit.units) < (least := graph[edit.group].least):
                    raise PlanError(
                        f"the plan keeps {len(edit.units)} units of group {edit.group!r}, of which the forward takes "
                        f"{least} at a time; keep at least {least}"
                    )
                continue
            kept = set(self.kept.get(edit.group, np.arange(size)).tolist())
            if stays := set(edit.units) & kept:
                raise PlanError(f"unit {min(stays)} of group {edit.group!r} stays, so that it cannot be {edit.done}")
            if isinstance(edit, Merge):
                self._check_merge(edit, kept)

    def _check_merge(self, merge: Merge, kept: set[int]) -> None:
        if self.merges[merge.group] is not merge:
            raise PlanError(f"the plan merges units of group {merge.group!r} twice; give one edit a group")
        if gone := set(merge.into) - kept:
            raise PlanError(
                f"units of group {merge.group!r} are merged into unit {min(gone)}, which does not stay; give the unit "
                "that it is merged into, as Merge.chained does"
            )
        folded = {u for fold in self.folds if fold.group == merge.group for u in fold.units}
        if both := folded & set(merge.units):
            raise PlanError(f"unit {min(both)} of group {merge.group!r} is merged and folded; a unit goes only once")

    def widths(self, graph: Graph) -> dict[str, int]:
        """Units left of every group."""
        kept = self.kept
        return {g.name: len(kept[g.name]) if g.name in kept else g.size for g in graph.groups}

    def then(self, later: Plan) -> Plan:
        """One plan that does what this and then `later` (made for the model this one cut) would do.

        Foldings do not compose, for the second is measured on a model that the first changed: they raise `PlanError`.
        Merges do, but for the rounding of weights that are merged once and not twice.
        """
        if self.folds or later.folds:
            raise PlanError("plans with foldings do not compose; cut once with the composed plan and fold then")
        kept = self.kept
        for name, units in later.kept.items():
            if name in kept and units.size and units[-1] >= len(kept[name]):
                raise PlanError(
                    f"the later plan asks for unit {units[-1]} of group {name!r}, of which the first leaves "
                    f"{len(kept[name])}; it was made for another model"
                )
            kept[name] = kept[name][units] if name in kept else units
        edits = (Keep(group=g, units=tuple(map(int, u))) if u.size else Drop(block=g) for g, u in kept.items())
        return Plan(edits=(*edits, *self._merges_then(later, kept)))

    def _merges_then(self, later: Plan, left: dict[str, NDArray[np.int64]]) -> Iterator[Merge]:
        """The merges of both, one for each group, by the first model's numbers of units."""
        steps = {name: list(zip(m.units, m.into, m.factors, strict=True)) for name, m in self.merges.items()}
        for name, m in later.merges.items():
            number = self.kept.get(name)
            if number is not None and max((*m.units, *m.into), default=0) >= len(number):
                raise PlanError(f"the later plan merges units of group {name!r} that the first leaves none of")
            again = zip(m.units, m.into, m.factors, strict=True)
            own = again if number is None else ((int(number[u]), int(number[v]), f) for u, v, f in again)
            steps.setdefault(name, []).extend(own)
        for name, held in steps.items():
            whole = Merge.chained(name, held)
            # What was merged into a unit that the later plan removes goes with it.
            found = [
                s
                for s in zip(whole.units, whole.into, whole.factors, strict=True)
                if s[1] in left.get(name, whole.into)
            ]
            if found:
                yield Merge.chained(name, found)

    def __str__(self) -> str:
        lines = [f"{e.group}: keep {len(e.units)}" for e in self.edits if isinstance(e, Keep)]
        lines += [f"{e.block}: drop" for e in self.edits if isinstance(e, Drop)]
        lines += [f"{e.group}: merge {len(e.units)}" for e in self.edits if isinstance(e, Merge)]
        return "\n".join(lines) or "keep everything"


def _edit(graph: Graph, name: str, units: tuple[int, ...]) -> Keep | Drop:
    return Drop(block=name) if not units and graph[name].kind == "depth" else Keep(group=name, units=units)
