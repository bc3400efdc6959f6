"""Depth: each residual block is a group of one unit, which may go whole."""

from __future__ import annotations

from ..graph.record import Trace
from .group import Group


def depth_groups(trace: Trace) -> tuple[Group, ...]:
    """One group for each residual block, named as the module is."""
    return tuple(Group(r.path, 1, (), (), trace.classes[r.axis], "depth") for r in trace.residuals)
