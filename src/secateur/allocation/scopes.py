"""Scopes: groups that do the same in their networks, told by structure alone, and scores on the scale of a scope."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BadBudget
from ..groups.graph import Graph
from ..groups.group import Group
from ..groups.scores import Scores

Normalise = Literal["none", "group", "scope"]
Normaliser = Literal["mean", "sum", "max", "min-max", "z-score"]


def signature(graph: Graph, group: Group) -> Hashable:
    """What two groups share if they are isomorphic: what a unit is, who writes it, and how each tensor holds it.

    Of each writer its kind, kernel and groups; of each member its role, axis and kernel. Not names, depth, widths, nor
    how many indices a unit holds: the same block of a later, wider stage is isomorphic, a stream that more blocks add
    to is not. A convolution of as many groups as channels is depthwise, however many that are.
    """
    writers = []
    for source in group.sources:
        w = source.writer
        groups = "each" if 1 < w.groups == w.axis.size else str(w.groups)
        writers.append((w.kind, w.kernel, groups, w.transposed))
    held = dict(graph.model.named_parameters(remove_duplicate=False)) | dict(graph.model.named_buffers())
    members = [(m.role, m.reads, m.axis, held[m.tensor].dim(), tuple(held[m.tensor].shape[2:])) for m in group.members]
    return group.kind, tuple(sorted(writers)), tuple(sorted(members))


def scopes(graph: Graph) -> NDArray[np.int64]:
    """(groups,) the number of each group's scope, counted as they come up."""
    seen: dict[Hashable, int] = {}
    found = [seen.setdefault(signature(graph, g), len(seen)) for g in graph.groups]
    return np.array(found, dtype=np.int64)


def check_normaliser(over: Normalise, by: Normaliser, per_macs: float) -> None:
    """Raise `BadBudget` for options that do not go together."""
    if over == "none" and by != "mean":
        raise BadBudget(f"by={by!r} of what, where normalise='none'? Give normalise='group' or 'scope'")
    if by == "z-score" and per_macs:
        raise BadBudget(
            f"by='z-score' gives scores below zero, which per_macs={per_macs} cannot divide; give by='min-max', or "
            "per_macs=0"
        )


def normalised(graph: Graph, scores: Scores, over: Normalise, by: Normaliser = "mean") -> Scores:
    """Scores on the scale of their group, or of all groups of its scope.

    "mean", "sum" and "max": over that of all, and as they are where it is not above zero; "min-max": from 0 to 1, and
    0.5 where all are alike; "z-score": less the mean, over the standard deviation (of all, not of a sample), and 0
    where all are alike.

    `score` divides by the group's mean already, but for criteria whose scores are on one scale in all groups. Over a
    group no normaliser sees that factor, or any other above zero; over a scope of several groups all do.
    DepGraph's N * score / (sum of the N highest) is none of these: its N is told nowhere. With N = 1 it is "max", with
    N the size of the group "mean".
    """
    if over == "none":
        return scores
    number = np.arange(len(graph.groups)) if over == "group" else scopes(graph)
    found: Scores = {}
    for scope in np.unique(number):
        names = [graph.groups[i].name for i in np.flatnonzero(number == scope)]
        together = torch.cat([scores[name] for name in names])
        found |= zip(names, rescaled(together, by).split([len(scores[name]) for name in names]), strict=True)
    return found


def rescaled(scores: Tensor, by: Normaliser) -> Tensor:
    """(n,) -> (n,), in the same order, finite if they are."""
    if not len(scores):
        return scores
    x = scores / 2.0 ** (math.frexp(float(scores.abs().max()))[1] - 1)  # a power of two: sums and squares stay in range
    lowest, highest = torch.aminmax(x)
    if by in ("min-max", "z-score"):
        if lowest == highest:
            return torch.full_like(x, 0.5 if by == "min-max" else 0.0)
        return (x - lowest) / (highest - lowest) if by == "min-max" else (x - x.mean()) / x.std(correction=0)
    whole = {"mean": x.mean(), "sum": x.sum(), "max": highest}[by]
    return x / whole if whole > 0 else scores
