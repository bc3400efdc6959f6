"""To which group each index belongs, or why it must stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..graph.record import OUT
from ..groups.find import find_groups
from ..groups.graph import Graph


def owners(graph: Graph) -> tuple[NDArray[np.int64], dict[int, tuple[bool, str]]]:
    """(classes,) number of the group of each class, or -n where it must stay for the n-th reason; and the reasons."""
    trace = graph.trace
    numbers = np.zeros(int(trace.classes.max()) + 1, dtype=np.int64)
    roles = np.zeros_like(numbers, dtype=np.int16)
    np.bitwise_or.at(roles, trace.classes, trace.roles)
    reasons: dict[tuple[bool, str], int] = {}

    def stay(classes: NDArray[np.int64], reason: str, at: str) -> None:
        stuck = (roles[classes] & OUT) > 0
        for is_unit in (True, False):
            key = (is_unit, f"{reason} at {at}" if at else reason)
            numbers[classes[stuck == is_unit]] = -reasons.setdefault(key, len(reasons) + 1)

    why = {f.name: f for f in graph.frozen}
    if any(not f.path for f in graph.frozen):  # by the user's wish: these are groups like others
        for group in find_groups(trace)[0]:
            if group.name in why:
                stay(group.classes, why[group.name].reason, why[group.name].path)
    alike: dict[tuple[str, str], list[int]] = {}
    for cls, freeze in trace.frozen.items():
        alike.setdefault((freeze.reason, freeze.path), []).append(cls)
    for (reason, at), classes in alike.items():
        stay(np.array(classes), reason, at)
    for writer in trace.writers:
        if writer.path in why:  # nothing reads what it writes, say
            written = trace.classes[writer.axis[writer.axis > 0]]
            stay(written[numbers[written] == 0], why[writer.path].reason, why[writer.path].path)
    for number, group in enumerate(graph.groups, start=1):
        numbers[group.classes] = number
    return numbers, {number: key for key, number in reasons.items()}
