"""A model drawn with the groups of its graph, as one HTML file that needs nothing else."""

from __future__ import annotations

import math
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ..cost.cost import short
from ..groups.graph import Graph
from .boxes import boxes
from .inventory import inventory
from .lanes import Lanes
from .layers import Block, Layer
from .origin import written
from .pages import environment, replace

GOLDEN = 137.508  # degrees of hue from one group to the next: neighbours differ, however many there are
PARTS = 4  # of one axis, up to which each is a link
WIDE = 0.06  # of an axis, from which the number has room


def write_network(
    graph: Graph, path: str | os.PathLike[str], *, title: str = "Network", command: str | None = None
) -> Path:
    """Draw the network of a graph and return the file's path; a file already there is replaced in one step.

    `command` is what made it, as the reader would type it. Raises `CheckpointError` where the file cannot be written.
    """
    target = Path(path)
    replace(target, network(graph, title=title, command=command))
    return target


def network(graph: Graph, *, title: str = "Network", command: str | None = None) -> str:
    """The page as HTML text: layers in order of execution, groups in colours and numbers, what is frozen and why."""
    root = boxes(graph)
    found = inventory(graph)
    return (
        _environment()
        .get_template("network.html.j2")
        .render(
            title=title,
            command=command,
            root=root,
            lanes=Lanes(root),
            found=found,
            groups=[_row(group) for group in found["groups"]],
            reasons=graph.coverage().by_reason(),
            layers=sum(1 for _ in root.layers()),
            written=written(),
            version=version("secateur"),
        )
    )


def _environment() -> Environment:
    made = environment()
    made.filters.update(short=_short, name=_name, shape=_shape, spans=_spans, hue=_hue)
    made.globals.update(is_block=_is_block, parts=PARTS, wide=WIDE, svg=Markup)
    return made


def _hue(number: int) -> int:
    return round(number * GOLDEN % 360)


def _is_block(box: Layer | Block) -> bool:
    return isinstance(box, Block)


def _short(amount: float) -> str:
    return short(amount).strip()


def _name(box: Layer | Block, parent: Block) -> str:
    """What a box is called within the block around it; the tensors of a block itself go by their own names."""
    if isinstance(box, Layer) and box.own:
        return ", ".join(box.tensors)
    inner = box.path[len(parent.path) :].lstrip(".") if box.path.startswith(parent.path) else box.path
    return inner or "model"


def _shape(layer: Layer) -> str:
    """Of its largest tensor: `64 × 3 × 7 × 7`."""
    largest = max(layer.tensors.values(), key=math.prod, default=())
    return " × ".join(map(str, largest))


def _spans(numbers: set[int]) -> str:
    """`1, 4–7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _row(group: dict[str, Any]) -> dict[str, Any]:
    """A group's line of the table, with its members by module."""
    modules: dict[str, dict[str, list[str]]] = {}
    for member in group["members"]:
        module, _, leaf = member["tensor"].rpartition(".")
        word = f"{leaf} [{member['axis']}]"
        word += f" ({member['indices_per_unit']} a unit)" if member["indices_per_unit"] > 1 else ""
        modules.setdefault(member["role"], {}).setdefault(module, []).append(word)
    lists = {role: [_line(module, words) for module, words in held.items()] for role, held in modules.items()}
    paths = {word: {tensor.rpartition(".")[0] or tensor for tensor in group[word]} for word in ("writers", "readers")}
    return {**group, "lists": lists, "paths": paths}


def _line(module: str, words: list[str]) -> str:
    return f"{module}: {', '.join(words)}" if module else ", ".join(words)
