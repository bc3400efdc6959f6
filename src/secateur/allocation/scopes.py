"""Scopes: groups that do the same in their networks, told by structure alone, and scores on the scale of a scope."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..groups.graph import Graph
from ..groups.group import Group
from ..groups.scores import Scores

Normalise = Literal["none", "group", "scope"]


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


def normalised(graph: Graph, scores: Scores, by: Normalise) -> Scores:
    """Scores over the mean of their group, or of all groups of its scope; as they are where that is not above zero.

    `score` divides by the group's mean already, but for criteria whose scores are on one scale in all groups.
    """
    if by == "none":
        return scores
    number = np.arange(len(graph.groups)) if by == "group" else scopes(graph)
    found: Scores = {}
    for scope in np.unique(number):
        names = [graph.groups[i].name for i in np.flatnonzero(number == scope)]
        mean = torch.cat([scores[name] for name in names]).mean()
        found |= {name: scores[name] / mean if mean > 0 else scores[name] for name in names}
    return found
