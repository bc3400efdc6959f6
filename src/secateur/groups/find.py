"""From labels to groups: classes that sit at the same places of the same tensors are the units of one group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..graph.labels import Axis
from ..graph.record import IN, OUT, STACKED, Trace, Writer, is_expert
from .group import Group, Member, Source, Units, kind_name, role_name
from .projection import with_projections

_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Frozen:
    """Units that no plan may touch, and why."""

    name: str
    size: int
    reason: str
    path: str


@dataclass(frozen=True)
class _Places:
    """Every index of every place (an axis of a tensor, or one that the cost counts or an op reduces), flat."""

    place: NDArray[np.int32]
    cls: NDArray[np.int64]


def _places(trace: Trace) -> _Places:
    tensor_axes = [axis for axes in trace.tensors.values() for axis in axes]
    counted = {id(axis): axis for term in trace.terms for axis in term.axes}
    # A mean over nothing is no number: units inside a slice that is reduced are not those outside it.
    inputs = (axes for reduction in trace.reductions for axes in reduction.inputs if axes is not None)
    reduced = {id(axis): axis for axes in inputs for axis in axes}
    axes: list[Axis] = [*tensor_axes, *(counted | reduced).values()]
    if not axes:
        return _Places(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64))
    sizes = np.array([a.size for a in axes])
    labels = np.concatenate(axes)
    place = np.repeat(np.arange(len(axes), dtype=np.int32), sizes)
    live = labels > 0
    return _Places(place[live], trace.classes[labels[live]])


def _signatures(places: _Places, classes: int) -> NDArray[np.uint64]:
    """One number per class: equal for classes found equally often at the same places."""
    key = (places.place.astype(np.uint64) + np.uint64(1)) * _MIX
    key ^= key >> np.uint64(29)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= key >> np.uint64(32)
    signature = np.zeros(classes, dtype=np.uint64)
    np.add.at(signature, places.cls, key)
    return signature


def _roles(trace: Trace) -> NDArray[np.int16]:
    """(classes,) OR of the roles of all labels."""
    roles = np.zeros(int(trace.classes.max()) + 1, dtype=np.int16)
    marked = np.flatnonzero(trace.roles)
    np.bitwise_or.at(roles, trace.classes[marked], trace.roles[marked])
    return roles


def _families(trace: Trace) -> Iterator[NDArray[np.int64]]:
    """Classes with equal signature, each family in the order of its first label."""
    places = _places(trace)
    roles = _roles(trace)
    count = roles.size
    first = np.full(count, trace.classes.size, dtype=np.int64)
    np.minimum.at(first, trace.classes, np.arange(trace.classes.size))
    signature = _signatures(places, count)
    fixed = np.zeros(count, dtype=bool)
    fixed[list(trace.frozen)] = True
    written = np.flatnonzero((roles & OUT) > 0)
    # Frozen and free classes never share a family, nor do classes that nothing reads and classes that something does.
    kinds = signature[written] + fixed[written] * np.uint64(7) + ((roles[written] & IN) > 0) * np.uint64(13)
    for kind in dict.fromkeys(kinds[np.argsort(first[written], kind="stable")].tolist()):
        family = written[kinds == kind]
        yield family[np.argsort(first[family])]


def find_groups(trace: Trace) -> tuple[tuple[Group, ...], tuple[Frozen, ...]]:
    """All groups that can be pruned, and all that cannot with the reason."""
    families = list(_families(trace))
    owner = np.full(int(trace.classes.max()) + 1, -1, dtype=np.int64)
    unit = np.zeros_like(owner)
    for number, family in enumerate(families):
        owner[family] = number
        unit[family] = np.arange(family.size)
    roles = _roles(trace)
    experts = [is_expert(int(roles[family[0]])) for family in families]
    members: list[list[Member]] = [[] for _ in families]
    for tensor, axes in trace.tensors.items():
        for d, axis in enumerate(axes):
            for number, index in _split(axis, trace, owner, unit, families):
                bits = int(trace.roles[axis[index[0, 0]]])
                bits |= IN if bits & STACKED and experts[number] else 0  # whole weights are read
                members[number].append(Member(tensor, d, role_name(bits), bool(bits & IN), index))
    sources: list[list[Source]] = [[] for _ in families]
    for writer in trace.writers:
        for number, index in _split(writer.axis, trace, owner, unit, families):
            sources[number].append(_source(writer, index, members[number]))
    groups, frozen = _assemble(trace, families, members, sources)
    return with_projections(trace, owner, groups), frozen


def _source(writer: Writer, index: Units, members: list[Member]) -> Source:
    """Where a weight holds units is what its own axes say: a layer may see it in part, or in another shape."""
    held = {m.axis: m.index for m in members if m.tensor == writer.weight}
    if writer.computed or not (held or writer.viewed):
        return Source(writer, index, index)
    if writer.weight_axis not in held:
        if len(held) != 1:
            return Source(replace(writer, weight=None, computed=True), index, index)
        writer = replace(writer, weight_axis=next(iter(held)))
    return Source(writer, index, held[writer.weight_axis])


def _split(
    axis: Axis, trace: Trace, owner: NDArray[np.int64], unit: NDArray[np.int64], families: list[NDArray[np.int64]]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Which families an axis holds, and where each of their units sits in it: (units, m) positions."""
    cls = trace.classes[axis]
    numbers = np.where(axis > 0, owner[cls], -1)
    for number in np.unique(numbers[numbers >= 0]).tolist():
        positions = np.flatnonzero(numbers == number)
        order = np.argsort(unit[cls[positions]], kind="stable")
        size = families[number].size
        if positions.size % size == 0:
            yield number, positions[order].reshape(size, -1)


def _assemble(
    trace: Trace, families: list[NDArray[np.int64]], members: list[list[Member]], sources: list[list[Source]]
) -> tuple[tuple[Group, ...], tuple[Frozen, ...]]:
    bits = _roles(trace)
    groups: list[Group] = []
    frozen: list[Frozen] = []
    taken: dict[str, int] = {}
    for family, held, written in zip(families, members, sources, strict=True):
        if not held:  # computed from inputs or constants alone
            continue
        if is_expert(int(bits[family[0]])):  # what they give together is written by no layer of its own
            written = [s for s in written if not s.writer.computed]
        name = written[0].writer.path if written else held[0].tensor.rpartition(".")[0]
        name = name or held[0].tensor
        taken[name] = taken.get(name, 0) + 1
        name = name if taken[name] == 1 else f"{name}#{taken[name]}"
        why = trace.frozen.get(int(family[0]))
        if why is not None:
            frozen.append(Frozen(name, family.size, why.reason, why.path))
        elif not (bits[family[0]] & IN or any(m.reads for m in held) or is_expert(int(bits[family[0]]))):
            frozen.append(Frozen(name, family.size, "no layer reads it", ""))
        else:
            kind, least = kind_name(int(bits[family[0]]), written), _taken(trace, family)
            groups.append(Group(name, int(family.size), tuple(held), tuple(written), family, kind, least))
    return tuple(groups), tuple(frozen)


def _taken(trace: Trace, family: NDArray[np.int64]) -> int:
    """Units that must stay so that each op that takes the first few of an axis finds as many."""
    most = 1
    for reduction in trace.reductions:
        if reduction.least > 1:
            classes = trace.classes[reduction.over[0]]
            held = int(np.isin(classes, family).sum()) // family.size
            fixed = int(np.isin(classes, [trace.classes[0], *trace.frozen]).sum())
            if held:
                most = max(most, -(-(reduction.least - fixed) // held))
    return min(most, family.size)
