"""`secateur inspect`: what of a model can be pruned, what cannot and why, and what each unit costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import Classes, Frozen, Input, Json, Model, Weights
from .output import console, emit, only_json, plain_table, row, whole

if TYPE_CHECKING:  # these import torch
    from ..groups.graph import Graph
    from ..groups.group import Group

EPILOG = """Examples
$ secateur inspect --model resnet20
$ secateur inspect --model torchvision:resnet50 --frozen 'layer1.*'
$ secateur inspect --model mypackage.nets:make --input 1,3,64,64 --json
$ secateur inspect --model resnet20 --weights half.safetensors

The last one shows a file that `secateur prune` wrote."""


def inspect(
    model: Model,
    weights: Weights = None,
    classes: Classes = None,
    input: Input = None,
    frozen: Frozen = None,
    json: Json = False,
) -> None:
    """Show what can be pruned, what is frozen and why, and what each unit costs.

    A group is a set of slices of parameters that live or die together; a unit is what can be removed from it: a
    channel, say. "Saved" is what removing one unit of the group alone saves: MACs of one forward on the example input,
    and parameters.
    """
    from .inputs import example_of, graph_of, model_of_any

    with only_json(json):
        net = model_of_any(model, classes, weights)
        graph = graph_of(net, example_of(model, input), frozen)
        found = describe(graph) | {"model": model}
    if json:
        emit(found)
    else:
        show(graph, found)


def describe(graph: Graph) -> dict[str, Any]:
    """The coverage, the cost and the groups as plain data."""
    from ..cost.cost import CostModel

    cost = CostModel(graph)
    saved = {field: cost.per_unit(field) for field in ("macs", "params", "bytes")}
    return {
        "units": graph.coverage().units,
        "cost": cost.dense().as_dict(),
        "groups": [_group(g) | {"saved_per_unit": {f: saved[f][g.name] for f in saved}} for g in graph.groups],
        "frozen": [{"name": f.name, "units": f.size, "reason": f.reason, "at": f.path} for f in graph.frozen],
    }


def _group(group: Group) -> dict[str, Any]:
    roles = {"writers": ("out",), "readers": ("in",), "others": ("affine", "")}
    members = {
        word: list(dict.fromkeys(m.tensor for m in group.members if m.role in held)) for word, held in roles.items()
    }
    return {"name": group.name, "kind": group.kind, "units": group.size, **members}


def show(graph: Graph, found: dict[str, Any]) -> None:
    """The same for a person."""
    from ..cost.cost import Cost, short

    out = console()
    out.print(str(graph.coverage()), soft_wrap=True)
    out.print(f"cost: {Cost(**found['cost'])}")
    if not found["groups"]:
        return
    figures = ("MACs saved\na unit", "params saved\na unit")
    table = plain_table("group", "units", "also\nwritten by", "read by", *figures, numbers=figures)
    whole(table, (g["name"] for g in found["groups"]), out)
    for group in found["groups"]:
        saved = (short(group["saved_per_unit"][field]).strip() for field in ("macs", "params"))
        others = [path for path in paths(group["writers"]) if path != group["name"]]
        units = f"{group['units']} {group['kind']}s"
        row(table, group["name"], units, few(others), few(paths(group["readers"])), *saved)
    out.print(table)


def paths(names: list[str]) -> list[str]:
    """The modules of these parameters, each once."""
    return list(dict.fromkeys(n.removesuffix(".weight").removesuffix(".bias") for n in names))


def few(names: list[str]) -> str:
    """The first name, and how many more."""
    return "\n".join([*names[:1], *([f"and {len(names) - 1} more"] if len(names) > 1 else [])])
