"""How many experts there are, as modules and configs state it, also where the traced forward never reads it.

Which int is read depends on how experts are computed (in a batch, grouped, one by one), and the model may be told to
compute them in another way after the cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .labels import Axis
from .provenance import Attribute, attributes_in
from .record import Need, Owner, are_experts

_NAME = re.compile(r"(moe_)?(num|n)_((local|routed)_)?experts")


@dataclass(frozen=True)
class Agreed(Owner):
    """What counts the experts of several layers: it follows where these agree, and else stays."""

    others: tuple[Axis, ...] = ()

    def value(self, attribute: Attribute, values: dict[Attribute, int], kept: Callable[[Axis], int]) -> int:
        """The attribute when `kept(axis)` indices of each are left."""
        counts = {kept(axis) for axis in (self.axis, *self.others)}
        return counts.pop() if len(counts) == 1 else values[attribute]


def unread(
    attributes: Mapping[Attribute, int], needs: Iterable[Need], pinned: Iterable[Attribute]
) -> dict[Attribute, int]:
    """The attributes on which nothing in the forward depends."""
    read = set().union(pinned, *(attributes_in(need.source) for need in needs))
    return {attribute: value for attribute, value in attributes.items() if attribute not in read}


def stated(
    attributes: Mapping[Attribute, int],
    tensors: Mapping[str, tuple[Axis, ...]],
    classes: Axis,
    roles: NDArray[np.int16],
    owners: Mapping[Attribute, Owner],
) -> dict[Attribute, Owner]:
    """What the attributes named so count: the experts of all parameters in their module, of which there are as many.

    `owners`: what others count. Where one of them counts experts in another way (groups of them), a config stays as it
    is, lest it speak of one and not of the other.
    """
    wanted = {a: n for a, n in attributes.items() if _named(a)}
    bits = np.zeros(int(classes.max()) + 1, dtype=np.int16)
    np.bitwise_or.at(bits, classes, roles)
    if any(are_experts(bits[classes[owner.axis]]).any() for a, owner in owners.items() if not _named(a)):
        wanted = {a: n for a, n in wanted.items() if "." not in a.name}
    axes = list(_axes(tensors, classes, bits)) if wanted else []
    found: dict[Attribute, Owner] = {}
    for attribute, count in wanted.items():
        inside = [axis for name, axis in axes if name.startswith(f"{attribute.path}." if attribute.path else "")]
        if inside and all(axis.size == count for axis in inside):
            found[attribute] = Agreed(inside[0], others=tuple(inside[1:]))
    return found


def _named(attribute: Attribute) -> bool:
    return bool(_NAME.fullmatch(attribute.name.rpartition(".")[2])) and attribute.position is None


def _axes(
    tensors: Mapping[str, tuple[Axis, ...]], classes: Axis, bits: NDArray[np.int16]
) -> Iterator[tuple[str, Axis]]:
    """(name of a tensor, an axis of it that experts number)."""
    for name, held in tensors.items():
        for axis in held:
            if axis.size and are_experts(bits[classes[axis]]).all():
                yield name, axis
