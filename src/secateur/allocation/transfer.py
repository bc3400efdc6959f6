"""Design transfer: what a plan leaves of each stage, for a network of another depth, width, data set or family.

Guided pruning of Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019 (1810.05270), section 5: layers of
one feature-map size form a stage, and all of a stage get the mean of what survived there, as a width or as a ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from ..errors import PlanError, UnknownName
from ..groups.document import Document
from ..groups.graph import Graph
from ..groups.group import Group
from ..groups.plan import Plan

By = Literal["stage", "layer"]
Form = Literal["ratio", "width"]
Match = Literal["name", "width", "order"]
HALF = Fraction(1, 2)


class Part(BaseModel):
    """A stage or a layer: how many groups it has, the widest of them, and the units of all, dense and kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    groups: StrictInt = Field(ge=1)
    width: StrictInt = Field(ge=1)
    units: StrictInt = Field(ge=1)
    keep: StrictInt = Field(ge=1)

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Part:
        if self.keep > self.units:
            raise ValueError(f"keep={self.keep} of {self.units} units: give {self.units} or less")
        return self


class Design(Document):
    """What is left of each part of a network. Making one of content that makes no sense raises `PlanError`."""

    called: ClassVar[str] = "design"
    format: Literal["secateur design 1"] = "secateur design 1"
    about: dict[str, Any] = Field(default_factory=dict)
    by: By = "stage"
    parts: dict[str, Part]

    @classmethod
    def of(cls, graph: Graph, plan: Plan, by: By = "stage", about: Mapping[str, Any] | None = None) -> Design:
        """The design of a plan, by stage or by layer (group).

        A stage is named `channel 32x32`: the kind of its units and the size of the feature map that the first layer
        of the group writes; a width that several layers share counts once. Groups that are frozen count nowhere.
        Raises `PlanError` for a plan that does not fit, or that drops whole blocks; `UnknownName`.
        """
        plan.check(graph)
        left, parts = plan.widths(graph), {}
        dropped = [g.name for g in graph.groups if g.kind == "depth" and not left[g.name]]
        if dropped:
            raise PlanError(
                f"the plan drops the block {dropped[0]!r}, and a design holds widths; give one without drops"
            )
        for name, groups in parts_of(graph, by).items():
            sizes = [g.size for g in groups]
            keep = sum(left[g.name] for g in groups)
            parts[name] = Part(groups=len(groups), width=max(sizes), units=sum(sizes), keep=keep)
        return cls(about=dict(about or {}), by=by, parts=parts)

    def keep(
        self, graph: Graph, form: Form = "ratio", match: Match | Mapping[str, str | None] = "name"
    ) -> dict[str, float]:
        """Group name -> the fraction to keep, for `Uniform(keep=...)`, of a graph of any network.

        `form`: "ratio", the mean width left over the mean width there was, times the group's width; "width", the mean
        width left itself. Either is rounded to the nearest whole width, halves up, and is at least 1. `match`: a part
        gets what the design says of the part of its "name"; of the only one as "width" (by its widest group) and of
        its kind; or of the one with its number in "order" of execution. Or {part of the graph: part of the design, or
        None for one that stays whole}.
        Raises `PlanError` that names a part without a partner, and a group that is narrower than the width.
        """
        if form not in get_args(Form):
            raise UnknownName("form of a design", form, get_args(Form))
        held = parts_of(graph, self.by)
        found: dict[str, float] = {}
        for name, partner in self._partners(held, match).items():
            if partner is not None:
                widths = {group.name: (self._width(partner, group, form), group.size) for group in held[name]}
                found |= {group: fraction(*width) for group, width in widths.items()}
        return found

    def _width(self, partner: str, group: Group, form: Form) -> int:
        part = self.parts[partner]
        mean = Fraction(part.keep, part.groups) if form == "width" else Fraction(part.keep, part.units) * group.size
        width = math.floor(mean + HALF)
        if width > group.size:
            raise PlanError(
                f"{self.by} {partner!r} of the design keeps {width} units, and group {group.name!r} has {group.size}; "
                "give form='ratio'"
            )
        return max(width, group.least, 1)

    def _partners(
        self, held: Mapping[str, list[Group]], match: Match | Mapping[str, str | None]
    ) -> dict[str, str | None]:
        """The design's part for each part of a graph."""
        if isinstance(match, Mapping):
            for key, value in match.items():
                if key not in held or (value is not None and value not in self.parts):
                    where, known = ("model", [*held]) if key not in held else ("design", [*self.parts])
                    raise UnknownName(f"{self.by} of the {where} called", str(value if key in held else key), known)
            partners = {name: match[name] for name in held if name in match}
        elif match == "name":
            partners = {name: name for name in held if name in self.parts}
        elif match == "width":
            partners = {name: found for name, groups in held.items() if (found := self._as_wide(name, groups))}
        elif match == "order":
            partners = self._in_order(list(held))
        else:
            raise UnknownName("match of a design", match, get_args(Match))
        for name in held:
            if name not in partners:
                raise PlanError(
                    f"{self.by} {name!r} of the model has no partner in the design, which has "
                    f"{', '.join(map(repr, self.parts))}; give match={{{name!r}: one of these, or None, ...}}, "
                    "or match='width' or 'order'"
                )
        return partners

    def _as_wide(self, name: str, groups: list[Group]) -> str | None:
        width = max(g.size for g in groups)
        same = [other for other, part in self.parts.items() if part.width == width and self._alike(name, other)]
        if len(same) > 1:
            raise PlanError(
                f"{self.by} {name!r} of the model is {width} wide, as {', '.join(map(repr, same))} of the design are; "
                "say which with match={...}"
            )
        return same[0] if same else None

    def _in_order(self, names: list[str]) -> dict[str, str | None]:
        if len(names) != len(self.parts) or not all(map(self._alike, names, self.parts)):
            raise PlanError(
                f"the model has {len(names)} {self.by}s ({', '.join(names)}) and the design {len(self.parts)} "
                f"({', '.join(self.parts)}): they do not pair off in order; give match={{...}}"
            )
        return dict(zip(names, self.parts, strict=True))

    def _alike(self, name: str, other: str) -> bool:
        """Whether two stages hold units of one kind; layers are known by name alone."""
        return self.by == "layer" or name.split()[0] == other.split()[0]


def parts_of(graph: Graph, by: By) -> dict[str, list[Group]]:
    """The groups of each stage or layer, in order of execution; residual blocks are in none. Raises `UnknownName`."""
    if by not in get_args(By):
        raise UnknownName("part of a design", by, get_args(By))
    found: dict[str, list[Group]] = {}
    for group in graph.groups:
        if group.kind != "depth":
            found.setdefault(group.name if by == "layer" else _stage(group), []).append(group)
    return found


def _stage(group: Group) -> str:
    resolution = group.sources[0].writer.resolution if group.sources else ()
    return f"{group.kind} {'x'.join(map(str, resolution))}".strip()


def fraction(width: int, size: int) -> float:
    """The smallest float that, as the decimal it is written, times `size` is at least `width`; 1/3 of 3 is 1, not 0."""
    found = width / size
    while Fraction(str(found)) * size < width:
        found = math.nextafter(found, 2.0)
    return found
