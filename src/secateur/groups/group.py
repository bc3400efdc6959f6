"""A group: the slices of parameters that must live or die together, unit by unit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..graph.record import AFFINE, IN, OUT, Writer

Units = NDArray[np.int64]


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


@dataclass(frozen=True, eq=False)
class Group:
    """Coupled slices. Units are numbered 0..size-1 in the order of the first parameter that holds them."""

    name: str
    size: int
    members: tuple[Member, ...]
    sources: tuple[Source, ...]
    classes: Units = field(repr=False)  # (units,) label class of each unit

    @property
    def kind(self) -> str:
        """What a unit is: "channel" where a convolution writes the group, else "neuron"."""
        return "channel" if any(s.writer.kind == "conv" for s in self.sources) else "neuron"

    def __repr__(self) -> str:
        return f"Group({self.name!r}, {self.size} {self.kind}s, {len(self.members)} members)"


def role_name(bits: int) -> str:
    """The word for a role; an axis that both writes and reads (a tied weight) counts as written."""
    return "out" if bits & OUT else "in" if bits & IN else "affine" if bits & AFFINE else ""
