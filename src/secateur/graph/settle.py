"""Settle: make the ints that a forward states follow a cut, or freeze what they decide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .labels import Axis, Freeze, Labels, is_live
from .provenance import Apply, Attribute, Size, Source, attributes_in, axes_in, evaluate
from .record import EQUAL, HEAD, Need, Owner, are_experts, restated
from .solve import Solver

SINGLES = 16  # a need over so few classes is tried without each of them
TRIALS = 3  # random cuts, besides those that tell any two classes apart


def settle(
    labels: Labels,
    needs: list[Need],
    pinned: dict[Attribute, str],
    attributes: dict[Attribute, int],
    roles: NDArray[np.int16],
    experts: bool = False,
) -> tuple[Axis, dict[int, Freeze], dict[Attribute, Owner]]:
    """Classes of all labels, why some are frozen, and what each attribute counts: after any cut each need holds.

    `experts`: where only one side of an axis can be cut, experts go before all else.
    """
    owners = _own(labels, needs, pinned, attributes)
    solver = Solver(labels, ((roles & HEAD) > 0) * np.int8(2) + ((roles & EQUAL) > 0) * np.int8(1), roles, experts)
    mended: set[int] = set()
    while True:
        classes, frozen = solver.solve()
        if _freeze_ranked(labels, classes, roles):
            continue
        wrong = list(_wrong(needs, owners, attributes, classes, frozen))
        if not wrong:
            return classes, frozen, owners
        before = len(mended)
        mended |= {
            id(need) for need in wrong if id(need) not in mended and _mend(labels, need, owners, pinned, attributes)
        }
        for need in wrong if len(mended) == before else ():
            _give_up(labels, need, owners)


def _freeze_ranked(labels: Labels, classes: Axis, roles: NDArray[np.int16]) -> bool:
    """Freeze what must stay unless it is experts, and is none; whether there was any."""
    held, labels.ranks = labels.ranks, []
    bits = np.zeros(int(classes.max()) + 1 if held else 0, dtype=np.int16)
    if held:
        np.bitwise_or.at(bits, classes, roles)
    done = len(labels.freezes)
    for rank in held:
        labels.freeze(rank.labels[~are_experts(bits[classes[rank.labels]])], rank.reason, rank.path)
    return len(labels.freezes) > done


def _own(
    labels: Labels, needs: list[Need], pinned: dict[Attribute, str], attributes: dict[Attribute, int]
) -> dict[Attribute, Owner]:
    """The axis that each attribute counts; one attribute cannot count two widths."""
    owners: dict[Attribute, Owner] = {}
    bare = [(n, n.source, Owner(n.axis)) for n in needs if isinstance(n.source, Attribute)]
    own = {attribute for _, attribute, _ in bare}
    scaled = [(n, *found) for n in needs if (found := _scaled(n)) is not None and found[0] not in own]
    for need, attribute, owner in (*bare, *scaled):
        other = owners.setdefault(attribute, owner)
        if other.axis.size != need.axis.size or owner.counted(need.axis.size) != attributes[attribute]:
            for axis in (need.axis, other.axis):
                labels.freeze(axis, f"{attribute} decides two different widths", need.path)
        elif attribute in pinned:
            labels.freeze(need.axis, f"{attribute} decides it, and is {pinned[attribute]} besides", need.path)
        else:
            labels.unify(other.axis, need.axis, need.path)
    return owners


def _scaled(need: Need) -> tuple[Attribute, Owner] | None:
    """The attribute behind `attribute * 4` or `attribute // 2`, and what it counts."""
    source, times, over = need.source, 1, 1
    while isinstance(source, Apply) and source.op in ("mul", "floordiv"):
        left, right = source.args
        if source.op == "mul" and _constant(left) is not None:
            left, right = right, left
        number = _constant(right)
        if not number:
            return None
        times, over = (times, over * number) if source.op == "mul" else (times * number, over)
        source = left
    if not isinstance(source, Attribute) or source is need.source:
        return None
    return source, Owner(need.axis, times, over)


def _constant(source: Source) -> int | None:
    """The value of an expression that no cut changes."""
    if attributes_in(source) or any(is_live(a) for a in axes_in(source)):
        return None
    return evaluate(source, {}, len)


def _wrong(
    needs: list[Need],
    owners: dict[Attribute, Owner],
    attributes: dict[Attribute, int],
    classes: Axis,
    frozen: dict[int, Freeze],
) -> Iterator[Need]:
    """Needs that fail after some cut. Of any two classes some trial removes the one and not the other."""
    fixed = np.zeros(int(classes.max()) + 1, dtype=bool)
    fixed[[int(classes[0]), *frozen]] = True
    held = {id(n): [n.axis, *_axes(n.source, owners)] for n in needs}
    open_ = {id(axis): not fixed[classes[axis]].all() for axes in held.values() for axis in axes}
    touched = [n for n in needs if any(open_[id(axis)] for axis in held[id(n)])]
    if not touched:
        return
    involved = np.unique(np.concatenate([classes[axis] for n in touched for axis in held[id(n)]]))
    involved = involved[~fixed[involved]]
    failed: set[int] = set()
    for keep in _trials(involved.size):
        alive_classes = np.ones(fixed.size, dtype=bool)
        alive_classes[involved[~keep]] = False
        alive = alive_classes[classes]
        counts: dict[int, int] = {}

        def kept(axis: Axis, alive: NDArray[np.bool_] = alive, counts: dict[int, int] = counts) -> int:
            if id(axis) not in counts:
                counts[id(axis)] = int(np.count_nonzero(alive[axis]))
            return counts[id(axis)]

        values = restated(owners, attributes, kept)
        # Of an axis something always stays, so that an empty one proves nothing.
        tried = (n for n in touched if all(kept(axis) for axis in held[id(n)]))
        failed |= {id(n) for n in tried if evaluate(n.source, values, kept) != kept(n.axis)}
    failed |= {id(n) for n in touched if _fails_without_one(n, held[id(n)], (owners, attributes), classes, fixed)}
    yield from (n for n in touched if id(n) in failed)


def _fails_without_one(
    need: Need,
    axes: list[Axis],
    known: tuple[dict[Attribute, Owner], dict[Attribute, int]],
    classes: Axis,
    fixed: NDArray[np.bool_],
) -> bool:
    """Whether a need over few classes fails when one of them goes; without half of them, short axes would be empty."""
    own = np.unique(np.concatenate([classes[axis] for axis in axes]))
    own = own[~fixed[own]]
    owners, attributes = known
    concerned = _concerned(need.source, owners)
    for one in own.tolist() if own.size <= SINGLES else ():
        counts: dict[int, int] = {}

        def kept(axis: Axis, one: int = one, counts: dict[int, int] = counts) -> int:
            if id(axis) not in counts:
                counts[id(axis)] = int(np.count_nonzero(classes[axis] != one))
            return counts[id(axis)]

        values = restated(concerned, attributes, kept)
        if all(kept(a) for a in axes) and evaluate(need.source, values, kept) != kept(need.axis):
            return True
    return False


def _concerned(source: Source, owners: dict[Attribute, Owner]) -> dict[Attribute, Owner]:
    """The owners of the attributes that an expression reads, and of those that these follow."""
    found: dict[Attribute, Owner] = {}
    waiting = [source]
    while waiting:
        for attribute in attributes_in(waiting.pop()):
            owner = owners.get(attribute)
            if owner is not None and attribute not in found:
                found[attribute] = owner
                waiting += [] if owner.need is None else [owner.need.source]
    return found


def _trials(count: int) -> Iterator[NDArray[np.bool_]]:
    """Which of `count` classes live: by each bit of their number and its opposite, and at random."""
    number, rng = np.arange(count), np.random.default_rng(0)
    for bit in range(max(count - 1, 1).bit_length()):
        lives = (number >> bit) & 1 == 1
        yield lives
        yield ~lives
    for _ in range(TRIALS):
        yield rng.random(count) < 0.6


def _axes(source: Source, owners: dict[Attribute, Owner]) -> list[Axis]:
    return [*axes_in(source), *(owners[a].axis for a in attributes_in(source) if a in owners)]


def _mend(
    labels: Labels,
    need: Need,
    owners: dict[Attribute, Owner],
    pinned: dict[Attribute, str],
    attributes: dict[Attribute, int],
) -> bool:
    """Ways to make a need hold: change the one attribute in it that nothing else decides, or tie widths."""
    source = need.source
    loose = [a for a in attributes_in(source) if a not in owners and a not in pinned]
    if evaluate(source, attributes, len) != need.axis.size:
        return False
    if isinstance(source, Size) and source.axis.size == need.axis.size:
        labels.unify(source.axis, need.axis, need.path)
        return True
    if len(loose) == 1 and not isinstance(source, Attribute):
        owners[loose[0]] = Owner(need.axis, need=need)
        return True
    if not (isinstance(source, Apply) and source.op == "floordiv" and isinstance(source.args[0], Size)):
        return False
    # `width // heads` stays a head's size if the width loses a head's share with each head.
    width, heads = source.args[0].axis, source.args[1]
    if not isinstance(heads, Attribute) or heads not in owners or width.size % owners[heads].axis.size:
        return False
    counted = owners[heads].axis
    labels.unify(width, counted.repeat(width.size // counted.size), need.path)
    return True


def _give_up(labels: Labels, need: Need, owners: dict[Attribute, Owner]) -> None:
    for axis in [need.axis, *_axes(need.source, owners)]:
        labels.freeze(axis, f"{need.use} is computed in a way that a cut cannot follow", need.path)
