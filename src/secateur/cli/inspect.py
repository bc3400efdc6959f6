"""`secateur inspect`: what of a model can be pruned, what cannot and why, and what each unit costs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .options import OUTPUT, Classes, Frozen, Input, Json, Kinds, Model, Weights, option
from .output import console, emit, only_json, percent, plain_table, row, whole

if TYPE_CHECKING:  # these import torch
    from rich.console import Console

    from ..groups.graph import Graph

EPILOG = """Examples
$ secateur inspect --model resnet20
$ secateur inspect --model torchvision:resnet50 --html resnet50.html
$ secateur inspect --model torchvision:resnet50 --frozen 'layer1.*'
$ secateur inspect --model timm:deit_tiny_patch16_224 --kinds head,neuron
$ secateur inspect --model mypackage.nets:make --input 1,3,64,64 --json
$ secateur inspect --model resnet20 --weights W.safetensors --redundancy
$ secateur inspect --model resnet20 --weights half.safetensors

The last one shows a file that `secateur prune` wrote."""

Members = Annotated[
    bool, option("--members", None, "List each tensor of each group, and everything that is frozen.", OUTPUT)
]
Redundant = Annotated[
    bool,
    option("--redundancy", None, "Say how redundant the weights of each group are, by three statistics.", OUTPUT),
]
Html = Annotated[
    Path | None,
    option("--html", "FILE", "Draw the network in the colours of its groups, as one page for a browser.", OUTPUT),
]


def inspect(
    model: Model,
    weights: Weights = None,
    classes: Classes = None,
    input: Input = None,
    frozen: Frozen = None,
    kinds: Kinds = None,
    members: Members = False,
    redundancy: Redundant = False,
    html: Html = None,
    json: Json = False,
) -> None:
    """Show what can be pruned, what is frozen and why, and what each unit costs.

    A group is a set of slices of parameters that live or die together; a unit is what can be removed from it: a
    channel, say. "Saved" is what removing one unit of the group alone saves: MACs of one forward on the example input,
    and parameters. "Share" is the part of the model's MACs that goes with all units of the group; shares overlap, since
    a layer counts for what it reads and for what it writes.

    Redundancy, from 0 to 1: "spectral", how far the rank of a group's weights falls short; "similar", how close each
    unit is to another; "magnitude", how few units hold the energy; "combined", what the three leave beyond chance.
    """
    from ..report.inventory import inventory
    from .inputs import example_of, graph_of, model_of_any
    from .redundancy import redundancy as redundancy_of
    from .redundancy import show_redundancy

    with only_json(json):
        net = model_of_any(model, classes, weights)
        graph = graph_of(net, example_of(model, input), frozen, kinds)
        found = inventory(graph) | {"model": model, "redundancy": redundancy_of(graph) if redundancy else None}
        asked: dict[str, Any] = {"--model": [model], "--weights": [weights], "--classes": [classes], "--input": [input]}
        asked |= {"--frozen": frozen or [], "--kinds": [kinds], "--html": [html]}
        page = html and draw(graph, html, model, typed(asked))
    if json:
        emit(found | {"html": page and str(page)})
    else:
        show(graph, found, members)
        if redundancy:
            show_redundancy(found["redundancy"])
        if page:
            console().print(f"network: {page}", soft_wrap=True)


def draw(graph: Graph, target: Path, model: str, command: str) -> Path:
    """Write the page and return its path. Raises `CheckpointError` where it cannot be written."""
    from ..report.network import write_network

    return write_network(graph, target, title=f"{model}: what can be pruned", command=command)


def typed(asked: dict[str, list[Any]]) -> str:
    """The command that asks for this."""
    words = [str(word) for flag, values in asked.items() for v in values if v is not None for word in (flag, v)]
    return shlex.join(["secateur", "inspect", *words])


def show(graph: Graph, found: dict[str, Any], members: bool) -> None:
    """The same for a person."""
    from ..cost.cost import Cost

    out = console()
    out.print(str(graph.coverage()), soft_wrap=True)
    kinds = [f"{held['units']} {kind}s in {held['groups']}" for kind, held in found["kinds"].items()]
    if kinds:
        out.print(f"units: {', '.join(kinds)} groups", soft_wrap=True)
    out.print(f"cost: {Cost(**found['cost'])}")
    if found["groups"]:
        show_groups(found, out)
    if members:
        show_members(found, out)


def show_groups(found: dict[str, Any], out: Console) -> None:
    """The table of groups."""
    from ..cost.cost import short

    figures = ("MACs saved\na unit", "params saved\na unit", "share of\nMACs")
    table = plain_table("group", "units", "also\nwritten by", "read by", *figures, numbers=figures)
    whole(table, (g["name"] for g in found["groups"]), out)
    for group in found["groups"]:
        saved = (short(group["saved_per_unit"][field]).strip() for field in ("macs", "params"))
        share = percent(group["depends"]["macs"] / found["cost"]["macs"]) if found["cost"]["macs"] else ""
        others = [path for path in paths(group["writers"]) if path != group["name"]]
        units = f"{group['units']} {group['kind']}s"
        row(table, group["name"], units, few(others), few(paths(group["readers"])), *saved, share)
    out.print(table)


def show_members(found: dict[str, Any], out: Console) -> None:
    """Each group with its tensors, and each frozen group."""
    for group in found["groups"]:
        out.print(f"{group['name']}: {group['units']} {group['kind']}s", soft_wrap=True)
        for member in group["members"]:
            each = f", {member['indices_per_unit']} indices a unit" if member["indices_per_unit"] > 1 else ""
            out.print(f"  {member['tensor']} axis {member['axis']}: {member['role']}{each}", soft_wrap=True)
    for frozen in found["frozen"]:
        at = f" at {frozen['at']}" if frozen["at"] else ""
        out.print(f"frozen: {frozen['name']}: {frozen['units']} units: {frozen['reason']}{at}", soft_wrap=True)


def paths(names: list[str]) -> list[str]:
    """The modules of these parameters, each once."""
    return list(dict.fromkeys(n.removesuffix(".weight").removesuffix(".bias") for n in names))


def few(names: list[str]) -> str:
    """The first name, and how many more."""
    return "\n".join([*names[:1], *([f"and {len(names) - 1} more"] if len(names) > 1 else [])])
