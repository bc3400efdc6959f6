"""`secateur inspect --redundancy`: how redundant each group and each layer that writes it is, from weights alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .output import console, plain_table, row, whole

if TYPE_CHECKING:  # these import torch
    from ..criteria.redundancy import Redundancy
    from ..graph.record import Writer
    from ..groups.graph import Graph

CAVEAT = (
    "Redundancy is of weights alone and ignores the data: what a layer repeats because its inputs span few directions "
    "is not seen here; the method 'pfa' looks at responses to data instead. Spatial kernels of low rank are separable; "
    "that makes no channel removable."
)
FIELDS = ("spectral", "similar", "magnitude", "chance_spectral", "chance_similar", "combined")


def redundancy(graph: Graph) -> dict[str, Any]:
    """Of each group, of all its layers joined and of each alone, as plain data; `relative`: over the mean of groups.

    `missing` says why a group has none, such as a weight that is computed.
    """
    from ..criteria.redundancy import of_group, of_layers
    from ..errors import BadModel
    from ..evidence.base import Evidence

    evidence = Evidence(graph.model)
    groups: list[dict[str, Any]] = []
    for group in graph.groups:
        try:
            joined, layers = of_group(group, evidence), of_layers(group, evidence)
        except BadModel as error:
            groups.append({"name": group.name, "missing": str(error)})
            continue
        writers = {str(s.writer.weight): s.writer for s in group.sources}
        each = [{"weight": n, **_plain(found), "kernels": _kernels(graph, writers[n])} for n, found in layers.items()]
        groups.append({"name": group.name, "units": group.size} | _plain(joined) | {"layers": each})
    told = [g["combined"] for g in groups if "combined" in g]
    mean = sum(told) / max(len(told), 1)
    for g in groups:
        g["relative"] = g["combined"] / mean if mean > 0 and "combined" in g else None
    return {"caveat": CAVEAT, "groups": groups}


def _plain(found: Redundancy) -> dict[str, float]:
    return {field: getattr(found, field) for field in FIELDS}


def _kernels(graph: Graph, writer: Writer) -> float | None:
    """Of a convolution's spatial kernels, where they are larger than 1."""
    from ..criteria.redundancy import of_kernels

    weight = graph.model.get_parameter(str(writer.weight))
    spatial = writer.kind == "conv" and weight.dim() == 2 + len(writer.kernel) and math.prod(writer.kernel) > 1
    return of_kernels(weight) if spatial else None


def show_redundancy(found: dict[str, Any]) -> None:
    """The same as a table: a row for each group, and one for each of its layers where there are several."""
    out = console()
    figures = ("spectral\n(chance)", "similar\n(chance)", "magnitude", "combined", "over\nmean", "spatial\nkernels")
    table = plain_table("group, its layers", *figures, numbers=figures)
    whole(table, (g["name"] for g in found["groups"]), out)
    for group in found["groups"]:
        if "missing" in group:
            row(table, group["name"], *("none" for _ in figures))
            continue
        layers = group["layers"]
        alone = layers[0]["kernels"] if len(layers) == 1 else None
        row(table, group["name"], *_figures(group), _number(group["relative"]), _number(alone))
        for layer in layers if len(layers) > 1 else ():
            row(table, f"  {layer['weight']}", *_figures(layer), "", _number(layer["kernels"]))
    out.print(table)
    for group in found["groups"]:
        if "missing" in group:
            out.print(f"none: {group['missing']}", soft_wrap=True)
    out.print(found["caveat"], soft_wrap=True)


def _figures(of: dict[str, Any]) -> list[str]:
    by_chance = [f"{of[f]:.3f} ({of[f'chance_{f}']:.3f})" for f in ("spectral", "similar")]
    return [*by_chance, _number(of["magnitude"]), _number(of["combined"])]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
