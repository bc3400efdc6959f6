"""Twins: networks in which one unit computes what another does, so that merging it must change nothing."""

import copy

import torch

import secateur
from held import tensors_of
from secateur.groups.plan import Keep, Merge, Plan


def twin(graph, pairs):
    """A copy of the graph's model, traced: in each group of `pairs` {group: (unit, into)} the two units are written
    alike, and what stands between treats them alike. What reads them is as it was."""
    model = copy.deepcopy(graph.model)
    held = tensors_of(model)
    for name, (unit, into) in pairs.items():
        for member in graph[name].members:
            if not member.reads:
                tensor = held[member.tensor].detach()
                index = torch.from_numpy(member.index)
                tensor.index_copy_(member.axis, index[unit], tensor.index_select(member.axis, index[into]))
    return secateur.trace(model, graph.example, kinds=("channel", "head", "neuron", "stream", "block"))


def merging(graph, pairs, factor=1.0):
    """The plan that merges these pairs."""
    keeps, merges = [], []
    for name, (unit, into) in pairs.items():
        keeps.append(Keep(group=name, units=tuple(u for u in range(graph[name].size) if u != unit)))
        merges.append(Merge(group=name, units=(unit,), into=(into,), factors=(factor,)))
    return Plan(edits=(*keeps, *merges))


def removing(graph, pairs):
    """The plan that removes the same units and merges nothing."""
    return Plan(edits=merging(graph, pairs).edits[: len(pairs)])
