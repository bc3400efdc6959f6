"""What a graph holds, as plain data: coverage, cost, groups with their members, and what is frozen by reason."""

from __future__ import annotations

from typing import Any

from ..cost.cost import CostModel
from ..groups.graph import Graph
from ..groups.group import KINDS, Group, Member

FIELDS = ("macs", "params", "bytes")
ROLES = {"out": "written", "in": "read", "affine": "scaled", "": "goes along"}


def inventory(graph: Graph) -> dict[str, Any]:
    """All that `secateur inspect` shows, ready for JSON.

    Of each group, "saved_per_unit" is what removing its first unit alone saves, and "depends" how much of the model's
    cost goes with all of its units; shares of several groups overlap, since a layer belongs to what it reads and to
    what it writes.
    """
    cost = CostModel(graph)
    dense = cost.dense().as_dict()
    saved = {field: cost.per_unit(field) for field in FIELDS}
    groups = []
    for number, group in enumerate(graph.groups, start=1):
        empty = cost.at({group.name: 0}).as_dict()
        figures = {
            "saved_per_unit": {f: saved[f][group.name] for f in FIELDS},
            "depends": {f: dense[f] - empty[f] for f in FIELDS},
        }
        groups.append({"number": number} | _group(group) | figures)
    return {
        "units": graph.coverage().units,
        "prunable": len(graph.groups),
        "kinds": _kinds(graph.groups),
        "cost": dense,
        "groups": groups,
        "frozen": [{"name": f.name, "units": f.size, "reason": f.reason, "at": f.path} for f in graph.frozen],
        "frozen_by_reason": [
            {"reason": reason, "groups": len(found), "units": sum(f.size for f in found), "example": found[0].name}
            for reason, found in graph.coverage().by_reason().items()
        ],
    }


def _kinds(groups: tuple[Group, ...]) -> dict[str, dict[str, int]]:
    """Kind -> how many groups and units; kinds that the model lacks are left out."""
    sizes = {kind: [g.size for g in groups if g.kind == kind] for kind in KINDS}
    return {kind: {"groups": len(held), "units": sum(held)} for kind, held in sizes.items() if held}


def _group(group: Group) -> dict[str, Any]:
    roles = {"writers": ("out",), "readers": ("in",), "others": ("affine", "")}
    held = {
        word: list(dict.fromkeys(m.tensor for m in group.members if m.role in wanted)) for word, wanted in roles.items()
    }
    members = [_member(m) for m in group.members]
    return {"name": group.name, "kind": group.kind, "units": group.size, **held, "members": members}


def _member(member: Member) -> dict[str, Any]:
    role = "written and read" if member.role == "out" and member.reads else ROLES[member.role]
    return {"tensor": member.tensor, "axis": member.axis, "role": role, "indices_per_unit": member.index.shape[1]}
