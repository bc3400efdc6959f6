"""Settle: make the ints that a forward states follow a cut, or freeze what they decide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .labels import Axis, Freeze, Labels, is_live
from .provenance import Apply, Attribute, Size, Source, attributes_in, axes_in, evaluate
from .record import EQUAL, HEAD, Need
from .solve import Solver

TRIALS = 3  # random cuts on which every stated int must come out right


def settle(
    labels: Labels,
    needs: list[Need],
    pinned: dict[Attribute, str],
    attributes: dict[Attribute, int],
    roles: NDArray[np.int8],
) -> tuple[Axis, dict[int, Freeze]]:
    """Classes of all labels and why some are frozen, such that after any cut each need holds."""
    owners = _own(labels, needs, pinned, attributes)
    for need in needs:
        if isinstance(need.source, Size) and need.source.axis.size == need.axis.size:
            labels.unify(need.source.axis, need.axis, need.path)
    solver = Solver(labels, ((roles & HEAD) > 0) * np.int8(2) + ((roles & EQUAL) > 0) * np.int8(1))
    mended: set[int] = set()
    while True:
        classes, frozen = solver.solve()
        wrong = list(_wrong(needs, owners, attributes, classes, frozen))
        if not wrong:
            return classes, frozen
        for need in wrong:
            if id(need) in mended or not _mend(labels, need, owners):
                _give_up(labels, need, owners)
            mended.add(id(need))


def _own(
    labels: Labels, needs: list[Need], pinned: dict[Attribute, str], attributes: dict[Attribute, int]
) -> dict[Attribute, Axis]:
    """The axis that each attribute counts; one attribute cannot count two widths."""
    owners: dict[Attribute, Axis] = {}
    for need in needs:
        source = need.source
        if not isinstance(source, Attribute):
            continue
        other = owners.setdefault(source, need.axis)
        if other.size != need.axis.size or attributes[source] != need.axis.size:
            for axis in (need.axis, other):
                labels.freeze(axis, f"{source} decides two different widths", need.path)
        elif source in pinned:
            labels.freeze(need.axis, f"{source} decides it, and is {pinned[source]} besides", need.path)
        else:
            labels.unify(other, need.axis, need.path)
    return owners


def _wrong(
    needs: list[Need],
    owners: dict[Attribute, Axis],
    attributes: dict[Attribute, int],
    classes: Axis,
    frozen: dict[int, Freeze],
) -> Iterator[Need]:
    """Needs that fail after some random cut."""
    touched = [n for n in needs if is_live(n.axis) or any(is_live(a) for a in _axes(n.source, owners))]
    fixed = np.zeros(int(classes.max()) + 1, dtype=bool)
    fixed[[int(classes[0]), *frozen]] = True
    failed: set[int] = set()
    rng = np.random.default_rng(0)
    for _ in range(TRIALS if touched else 0):
        alive = (fixed | (rng.random(fixed.size) < 0.6))[classes]
        counts: dict[int, int] = {}

        def kept(axis: Axis, alive: NDArray[np.bool_] = alive, counts: dict[int, int] = counts) -> int:
            if id(axis) not in counts:
                counts[id(axis)] = int(np.count_nonzero(alive[axis]))
            return counts[id(axis)]

        values = attributes | {a: kept(axis) for a, axis in owners.items()}
        failed |= {id(n) for n in touched if evaluate(n.source, values, kept) != kept(n.axis)}
    yield from (n for n in touched if id(n) in failed)


def _axes(source: Source, owners: dict[Attribute, Axis]) -> list[Axis]:
    return [*axes_in(source), *(owners[a] for a in attributes_in(source) if a in owners)]


def _mend(labels: Labels, need: Need, owners: dict[Attribute, Axis]) -> bool:
    """`width // heads` stays a head's size if the width loses a head's share with each head."""
    source = need.source
    if not (isinstance(source, Apply) and source.op == "floordiv" and isinstance(source.args[0], Size)):
        return False
    width, heads = source.args[0].axis, source.args[1]
    if not isinstance(heads, Attribute) or heads not in owners or width.size % owners[heads].size:
        return False
    labels.unify(width, owners[heads].repeat(width.size // owners[heads].size), need.path)
    return True


def _give_up(labels: Labels, need: Need, owners: dict[Attribute, Axis]) -> None:
    for axis in [need.axis, *_axes(need.source, owners)]:
        labels.freeze(axis, f"{need.use} is computed in a way that a cut cannot follow", need.path)
