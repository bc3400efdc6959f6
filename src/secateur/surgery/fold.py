"""Constant folding: what a layer saw of removed units goes into its bias, or into the mean of the norm behind it.

Exact where the removed units are constant and the layer pads nothing; with zero padding exact away from the border.
(Network slimming zeroes a scale and leaves the shift: the channel is then the constant act(beta).)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NeedsData, PlanError, SurgeryError
from ..graph.example import Example, call
from ..graph.record import Contraction, Writer
from ..graph.replay import AtContractions
from ..graph.trace import undisturbed
from ..groups.graph import Graph
from ..groups.group import Member
from ..groups.plan import Fold, Plan


def _reader(graph: Graph, weight: str) -> Writer:
    """The layer whose weight reads the units; every such layer also writes. Raises `SurgeryError`."""
    found = [w for w in graph.trace.writers if w.weight == weight]
    if len(found) != 1:
        raise SurgeryError(
            f"{weight} is used {len(found)} times; what it saw of removed units cannot be folded into one bias"
        )
    if found[0].computed:
        raise SurgeryError(f"{weight} is not used as it is but computed with first; folding into it is not supported")
    if found[0].viewed:
        raise SurgeryError(f"{weight} is used in part or in another shape; folding into it is not supported")
    if found[0].groups != 1:
        raise SurgeryError(f"{weight} belongs to a grouped convolution; folding into it is not supported")
    if found[0].transposed:
        raise SurgeryError(
            f"{weight} belongs to a transposed convolution, where a constant gives another output at each position; "
            "folding into it is not supported"
        )
    return found[0]


def _columns(graph: Graph, fold: Fold) -> Member:
    """The axis of the reading weight. Raises `PlanError` where the fold does not fit the group or the reader."""
    group = graph[fold.group]
    member = next((m for m in group.members if m.tensor == fold.reader and m.reads), None)
    if member is None:
        readers = ", ".join(m.tensor for m in group.members if m.reads)
        raise PlanError(f"{fold.reader!r} does not read group {fold.group!r}; its readers: {readers}")
    if any(len(c) != member.index.shape[1] for c in fold.constants):
        raise PlanError(
            f"{fold.reader!r} holds {member.index.shape[1]} positions for each unit of group {fold.group!r}; "
            "give as many constants for each unit"
        )
    return member


def shifts(graph: Graph, model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """What each reading layer's output gains: weight name -> (outputs,), from the dense weights of `model`."""
    named = dict(model.named_parameters())
    total: dict[str, Tensor] = {}
    for fold in plan.folds:
        if fold.reader not in named:
            raise PlanError(f"{fold.reader!r} is no parameter of the model, so nothing can be folded into it")
        reader, member = _reader(graph, fold.reader), _columns(graph, fold)
        weight = named[fold.reader].detach()
        index = torch.from_numpy(member.index[list(fold.units)].reshape(-1)).to(weight.device)
        constants = torch.tensor(fold.constants, dtype=torch.float64, device=weight.device).reshape(-1)
        taken = weight.index_select(member.axis, index).double().movedim((reader.weight_axis, member.axis), (0, 1))
        shift = taken.reshape(*taken.shape[:2], -1).sum(-1) @ constants
        total[fold.reader] = total.get(fold.reader, 0) + shift
    return total


def apply_shifts(graph: Graph, model: nn.Module, shifts: dict[str, Tensor], alive: np.ndarray) -> list[str]:
    """Add the shifts to a model that has been cut: to the bias, else to the running mean of the norm behind.

    Returns the names of the tensors it changed; each is computed in float64 and rounded once.
    """
    changed = []
    for weight, shift in shifts.items():
        writer = _reader(graph, weight)
        left = shift[torch.from_numpy(np.flatnonzero(alive[writer.axis]))]
        name, sign = _absorber(writer)
        tensor = model.get_parameter(name) if sign > 0 else model.get_buffer(name)
        with torch.no_grad():
            tensor.copy_((tensor.double() + sign * left.to(tensor.device)).to(tensor.dtype))
        changed.append(name)
    return changed


def _absorber(writer: Writer) -> tuple[str, int]:
    """The tensor that takes a shift of what a layer gives, and with which sign."""
    if writer.bias is not None:
        return writer.bias, 1
    if writer.norm is not None and writer.norm.mean is not None:
        return writer.norm.mean, -1
    raise SurgeryError(
        f"{writer.weight} has no bias and no batch norm behind it; give the layer a bias to fold constants into"
    )


@torch.no_grad()
def seen_means(graph: Graph, model: nn.Module, batches: Iterable[Example]) -> dict[int, Tensor]:
    """Mean of what each contraction reads, by index of the summed axis: contraction number -> (n,) float64."""
    total: dict[int, Tensor] = {}
    count: dict[int, int] = {}

    def note(contraction: Contraction, x: Tensor) -> Tensor:
        i = contraction.number
        rows = x.to(torch.float64).movedim(contraction.axis, -1).reshape(-1, contraction.labels.size)
        total[i] = total.get(i, 0) + rows.sum(0)
        count[i] = count.get(i, 0) + rows.shape[0]
        return x

    with undisturbed(model):
        for batch in batches:
            with AtContractions(graph.trace, note):
                call(model, batch)
    if not total:
        raise NeedsData("folding needs batches of inputs to take the mean over, and none were given")
    return {i: total[i] / count[i] for i in total}


def fold_means(graph: Graph, plan: Plan, batches: Iterable[Example], model: nn.Module | None = None) -> Plan:
    """The plan with one `Fold` for each layer that read removed units: their mean over the batches, in eval mode.

    Raises `NeedsData` when there are no batches.
    """
    means = seen_means(graph, graph.model if model is None else model, batches)
    kept = plan.kept
    folds: list[Any] = []
    for i, contraction in enumerate(graph.trace.contractions):
        if contraction.weight is None:
            continue
        for name in kept:
            group = graph[name]
            member = next((m for m in group.members if m.tensor == contraction.weight and m.reads), None)
            if member is None:
                continue
            merged = plan.merges[name].units if name in plan.merges else ()  # others do for these
            gone = np.setdiff1d(np.delete(np.arange(group.size), kept[name]), merged)
            constants = means[i][torch.from_numpy(member.index[gone])].tolist()
            units = tuple(map(int, gone))
            folds.append(
                Fold(group=name, reader=contraction.weight, units=units, constants=tuple(map(tuple, constants)))
            )
    return Plan(edits=(*plan.edits, *folds))
