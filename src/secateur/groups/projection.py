"""Projection shortcuts: of the layers that a residual stream is the sum of, the 1x1 convolutions around a branch.

A shortcut reads what the branch beside it starts from: what a projection reads, other layers lead on to another layer
that writes the same group. The last layer of a bottleneck is 1x1 too, but alone reads what it reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..graph.labels import Axis
from ..graph.record import Trace
from .group import Group, Source


def with_projections(trace: Trace, owner: NDArray[np.int64], groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups, projections marked among their sources. `owner`: (classes,) the family of each class, or -1."""
    if not any(_may_be(group, s) for group in groups for s in group.sources):
        return tuple(groups)

    def families(axis: Axis) -> set[int]:
        return set(np.unique(owner[trace.classes[axis]]).tolist())

    reads, writes = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    readers = defaultdict[int, set[str]](set)
    for c in trace.contractions:
        layer = c.weight or c.path
        reads[layer] |= families(c.labels)
    for layer, read in reads.items():
        for family in read:
            readers[family].add(layer)
    for writer in trace.writers:
        writes[writer.weight or writer.path] |= families(writer.axis)

    def around(group: Group, source: Source) -> bool:
        """Whether what the layer reads is led to the group by others as well."""
        own, goal = source.writer.weight or source.writer.path, int(owner[group.classes[0]])
        seen = set(reads[own])
        ahead = [] if goal in seen else list(seen)
        while ahead:
            for layer in readers[ahead.pop()] - {own}:
                if goal in writes[layer]:
                    return True
                ahead += writes[layer] - seen
                seen |= writes[layer]
        return False

    return tuple(
        replace(g, sources=tuple(replace(s, projection=_may_be(g, s) and around(g, s)) for s in g.sources))
        for g in groups
    )


def _may_be(group: Group, source: Source) -> bool:
    writer = source.writer
    return len(group.sources) > 1 and writer.kind == "conv" and set(writer.kernel) == {1} and writer.groups == 1
