"""A plan as a JSON file: one line for each group with its units in order of worth, of which a person edits `keep`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator, model_validator

from ..errors import PlanError, UnknownName
from .document import Document
from .graph import Graph
from .group import KINDS
from .plan import Fold, Merge, Plan
from .scores import Scores


class Line(BaseModel):
    """One group: the first `keep` of `order` stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    size: StrictInt = Field(ge=1)
    keep: StrictInt = Field(ge=0)
    order: tuple[StrictInt, ...]  # every unit once, the most important first

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"give one of {', '.join(KINDS)}")
        return kind

    @model_validator(mode="after")
    def _fits(self) -> Line:
        if wrong := set(self.order) ^ set(range(self.size)):
            unit = min(wrong)
            told = f"unit {unit} is missing" if unit in range(self.size) else f"there is no unit {unit}"
            raise ValueError(f"order must hold each unit from 0 to {self.size - 1} once: {told}")
        if len(self.order) > self.size:
            raise ValueError(f"order must hold each unit once: it has {len(self.order)} entries for {self.size} units")
        if self.kind == "depth" and self.size != 1:
            raise ValueError(f"size={self.size}: a residual block is one unit")
        if self.keep > self.size:
            raise ValueError(f"keep={self.keep} of {self.size} units: give {self.size} or less")
        if not self.keep and self.kind != "depth":
            raise ValueError(f"keep=0: a group of {self.kind}s must keep at least one unit")
        return self

    @property
    def kept(self) -> tuple[int, ...]:
        """The units that stay, in rising order."""
        return tuple(sorted(self.order[: self.keep]))


class PlanFile(Document):
    """A plan, with the order in which units would go; groups that it does not name stay whole.

    Making one of content that makes no sense raises `PlanError` that names the field.
    """

    called: ClassVar[str] = "plan file"
    format: Literal["secateur plan 1"] = "secateur plan 1"
    about: dict[str, Any] = Field(default_factory=dict)  # what it was made of and for, its cost; free
    groups: dict[str, Line] = Field(default_factory=dict)
    edits: tuple[Annotated[Fold | Merge, Field(discriminator="edit")], ...] = ()
    # group -> the kept units that its edits belong to
    made_for: dict[str, tuple[StrictInt, ...]] = Field(default_factory=dict)

    @field_validator("about")
    @classmethod
    def _plain(cls, about: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(about, allow_nan=False)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return about

    @classmethod
    def of(
        cls, graph: Graph, plan: Plan, scores: Scores | None = None, about: Mapping[str, Any] | None = None
    ) -> PlanFile:
        """The file of a plan. Units that stay come first, each part by falling score, of equal ones the lower unit.

        `scores`: group name -> (units,); a group without any has its units in rising order. Raises `PlanError` for a
        plan or scores that do not fit the graph.
        """
        plan.check(graph)
        kept, lines = plan.kept, {}
        for group in graph.groups:
            units = kept.get(group.name, np.arange(group.size))
            worth = np.zeros(group.size) if scores is None else np.asarray(scores.get(group.name, np.zeros(group.size)))
            if worth.shape != (group.size,):
                raise PlanError(f"scores of group {group.name!r} are {worth.shape}, and it has {group.size} units")
            order = np.lexsort((np.arange(group.size), -worth, ~np.isin(np.arange(group.size), units)))
            lines[group.name] = Line(kind=group.kind, size=group.size, keep=len(units), order=tuple(order.tolist()))
        edits = tuple(e for e in plan.edits if isinstance(e, (Fold, Merge)))
        made_for = {e.group: lines[e.group].kept for e in edits}
        return cls(about=dict(about or {}), groups=lines, edits=edits, made_for=made_for)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of group that it names: trace with these."""
        return tuple(dict.fromkeys(line.kind for line in self.groups.values()))

    def plan(self, graph: Graph) -> Plan:
        """The plan for this graph.

        Raises `PlanError` where a group is not there, is of another size or kind, or may not lose so many units, and
        where foldings or merges belong to other kept units.
        """
        for name, line in self.groups.items():
            _check(graph, name, line)
        for edit in self.edits:
            self._check_edit(edit)
        keeping = Plan.keeping(graph, {name: line.kept for name, line in self.groups.items()})
        plan = Plan(edits=(*keeping.edits, *self.edits))
        plan.check(graph)
        return plan

    def _check_edit(self, edit: Fold | Merge) -> None:
        line = self.groups.get(edit.group)
        if line is None:
            raise PlanError(f"the plan file has an edit {edit.edit!r} of group {edit.group!r}, and no such group")
        changed = set(self.made_for.get(edit.group, line.kept)) ^ set(line.kept)
        if changed:
            unit = min(changed)
            raise PlanError(
                f"the edit {edit.edit!r} of group {edit.group!r} was made for other kept units: unit {unit} "
                f"{'stays' if unit in line.kept else 'goes'} now. Keep what was kept, or remove the group's entries "
                "from 'edits' and 'made_for' and repair the cut anew"
            )


def _check(graph: Graph, name: str, line: Line) -> None:
    try:
        group = graph[name]
    except UnknownName as error:
        raise PlanError(f"the plan file is of another model: {error}") from error
    if (group.size, group.kind) != (line.size, line.kind):
        raise PlanError(
            f"group {name!r} is {line.size} {line.kind}s in the plan file and {group.size} {group.kind}s in the model; "
            "the plan was made for another one"
        )
