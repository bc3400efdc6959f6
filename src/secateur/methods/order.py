"""Order: the groups of a network from its first layer to its last, as layers run, not as modules were registered."""

from __future__ import annotations

from ..evidence.readers import readers
from ..groups.graph import Graph
from ..groups.group import Group


def in_order(graph: Graph) -> list[Group]:
    """The groups, in the order in which the first layer that reads each of them runs; last those that no layer reads.

    So a group comes after all groups that the first layer that writes it reads, for that layer runs before its readers.
    """
    first: dict[str, int] = {}
    for number, reader in sorted(readers(graph).items()):
        for name in reader.groups:
            first.setdefault(name, number)
    return sorted(graph.groups, key=lambda g: first.get(g.name, len(graph.trace.contractions)))
