"""A group: the slices of parameters that must live or die together, unit by unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..graph.record import AFFINE, BLOCK, HEAD, IN, OUT, STREAM, Writer, is_expert

Units = NDArray[np.int64]
WIDTHS = ("channel", "head", "neuron", "stream", "block")
KINDS = (*WIDTHS, "expert", "depth")


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one parameter or buffer that belongs to a group."""

    tensor: str  # name in `named_parameters` or `named_buffers`
    axis: int
    role: str  # "out", "in", "affine" or "" (a tensor that only goes along)
    reads: bool  # whether the axis is read; a tied weight may be read as well as written
    index: Units  # (units, m) positions along the axis that each unit holds


@dataclass(frozen=True, eq=False)
class Source:
    """A layer that writes the group, and which of its output indices belong to each unit."""

    writer: Writer
    index: Units  # (units, m)
    rows: Units  # (units, n) positions along `writer.weight_axis` of the weight: most often the same
    projection: bool = False  # whether it is the 1x1 convolution of a shortcut around a branch


@dataclass(frozen=True, eq=False)
class Group:
    """Coupled slices. Units are numbered 0..size-1 in the order of the first parameter that holds them."""

    name: str
    size: int
    members: tuple[Member, ...]
    sources: tuple[Source, ...]
    classes: Units = field(repr=False)  # (units,) label class of each unit

    kind: str = "neuron"  # what a unit is: one of `KINDS`; of depth, the unit is the module of the group's name
    taken: int = 1  # units that the forward takes at a time: of experts, as many as a top-k chooses

    @property
    def least(self) -> int:
        """Units that must stay: a width of none is no width, but a residual block may go."""
        return 0 if self.kind == "depth" else self.taken

    def __repr__(self) -> str:
        return f"Group({self.name!r}, {self.size} {self.kind}s, {len(self.members)} members)"


def role_name(bits: int) -> str:
    """The word for a role; an axis that both writes and reads (a tied weight) counts as written."""
    return "out" if bits & OUT else "in" if bits & IN else "affine" if bits & AFFINE else ""


def kind_name(bits: int, sources: Sequence[Source]) -> str:
    """What a unit is, from all roles of its labels and the layers that write it.

    "head": an attention head, with its keys and values (a KV group where query heads share those); "stream": an index
    of the width that residual layers add to; "block": a whole group of a grouped layer; "channel": of convolutions;
    "neuron": of linear layers; "expert": whole weights that a router weighs, or an index chosen by number.
    """
    if is_expert(bits):
        return "expert"
    written = {s.writer.kind for s in sources}
    if bits & STREAM and written & {"linear", "embedding"}:
        return "stream"
    if bits & HEAD:
        return "head"
    if bits & BLOCK:
        return "block"
    return "channel" if "conv" in written else "neuron"
