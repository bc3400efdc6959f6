"""`secateur inspect`: what of a model can be pruned, what cannot and why, and what each unit costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import Classes, Frozen, Input, Json, Model, Weights
from .output import console, emit, only_json, plain_table, row

if TYPE_CHECKING:  # these import torch
    from ..groups.graph import Graph
    from ..groups.group import Group

EPILOG = """Examples

  secateur inspect --model resnet20
  secateur inspect --model torchvision:resnet50 --frozen 'layer1.*'
  secateur inspect --model mypackage.nets:make --input 1,3,64,64 --json
  secateur inspect --model resnet20 --weights half.safetensors     (a file that `secateur prune` wrote)"""


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
    out.print(str(graph.coverage()), markup=False, soft_wrap=True)
    out.print(f"cost: {Cost(**found['cost'])}", markup=False)
    numbers = ("units", "MACs saved\nper unit", "params saved\nper unit")
    table = plain_table("group", "kind", "units", "written by", "read by", *numbers[1:], numbers=numbers)
    for group in found["groups"]:
        saved = group["saved_per_unit"]
        figures = (short(saved["macs"]).strip(), short(saved["params"]).strip())
        ends = (_few(group["writers"]), _few(group["readers"]))
        row(table, group["name"], group["kind"], group["units"], *ends, *figures)
    if found["groups"]:
        out.print(table)


def _few(names: list[str], most: int = 2) -> str:
    """Module paths, the first ones by name."""
    paths = list(dict.fromkeys(n.removesuffix(".weight").removesuffix(".bias") for n in names))
    more = [f"+{len(paths) - most} more"] if len(paths) > most else []
    return "\n".join([*paths[:most], *more])
