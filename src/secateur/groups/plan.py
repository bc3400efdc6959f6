"""Plan: pure data, an ordered list of edits; it can be printed, edited by hand, stored, replayed on a fresh model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
    ValidationError,
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


class Fold(_Edit):
    """What a layer saw of removed units was this constant: add it to the layer's bias (or to the mean of its norm)."""

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


Edit = Annotated[Keep | Fold, Field(discriminator="edit")]


class Plan(_Edit):
    """An ordered list of edits. Groups that no `Keep` names stay whole."""

    edits: tuple[Edit, ...] = ()

    @property
    def kept(self) -> dict[str, NDArray[np.int64]]:
        """Units kept of each group that an edit names."""
        return {e.group: np.array(e.units, dtype=np.int64) for e in self.edits if isinstance(e, Keep)}

    @property
    def folds(self) -> tuple[Fold, ...]:
        """The constant foldings."""
        return tuple(e for e in self.edits if isinstance(e, Fold))

    @classmethod
    def keeping(cls, graph: Graph, kept: Mapping[str, Iterable[int]]) -> Plan:
        """A plan that keeps these units of these groups; groups kept whole need no edit.

        Raises `PlanError` for units that the group does not have, `UnknownName` for a group that does not exist.
        """
        edits = tuple(Keep(group=name, units=tuple(int(u) for u in units)) for name, units in kept.items())
        plan = cls(edits=tuple(e for e in edits if len(e.units) < graph[e.group].size))
        cls(edits=edits).check(graph)
        return plan

    def check(self, graph: Graph) -> None:
        """Raise `PlanError` unless every edit fits the graph."""
        seen: set[str] = set()
        for edit in self.edits:
            size = graph[edit.group].size
            if edit.units and edit.units[-1] >= size:
                raise PlanError(f"group {edit.group!r} has {size} units, the plan asks for unit {edit.units[-1]}")
            if isinstance(edit, Keep):
                if edit.group in seen:
                    raise PlanError(f"the plan keeps units of group {edit.group!r} twice; give one edit a group")
                seen.add(edit.group)
            elif stays := set(edit.units) & set(self.kept.get(edit.group, np.arange(size)).tolist()):
                raise PlanError(f"unit {min(stays)} of group {edit.group!r} stays, so that it cannot be folded")

    def widths(self, graph: Graph) -> dict[str, int]:
        """Units left of every group."""
        kept = self.kept
        return {g.name: len(kept[g.name]) if g.name in kept else g.size for g in graph.groups}

    def then(self, later: Plan) -> Plan:
        """One plan that does what this and then `later` (made for the model this one cut) would do.

        Foldings do not compose, for the second is measured on a model that the first changed: they raise `PlanError`.
        """
        if self.folds or later.folds:
            raise PlanError("plans with foldings do not compose; cut once with the composed plan and fold then")
        kept = self.kept
        for name, units in later.kept.items():
            if name in kept and units[-1] >= len(kept[name]):
                raise PlanError(
                    f"the later plan asks for unit {units[-1]} of group {name!r}, of which the first leaves "
                    f"{len(kept[name])}; it was made for another model"
                )
            kept[name] = kept[name][units] if name in kept else units
        return Plan(edits=tuple(Keep(group=g, units=tuple(map(int, u))) for g, u in kept.items()))

    def __str__(self) -> str:
        lines = [f"{e.group}: keep {len(e.units)}" for e in self.edits if isinstance(e, Keep)]
        return "\n".join(lines) or "keep everything"
