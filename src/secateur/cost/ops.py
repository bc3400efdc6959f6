"""The ops whose time is measured: what a term of the cost runs, at given lengths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod

from ..graph.record import Convolution, Term

BLOCK = 16  # widths are measured at multiples of this, the float32 lanes of a wide vector register
FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)
KINDS = ("conv", "pointwise", "depthwise", "gemm")


@dataclass(frozen=True)
class Op:
    """One op; `lengths`: (out, in) of a convolution, (channels,) of a depthwise one, (batch, m, k, n) of a product."""

    kind: str  # one of KINDS; "conv" has a window larger than one
    lengths: tuple[int, ...]
    conv: Convolution | None = None


@dataclass(frozen=True)
class Timed:
    """A term's op, and which of its lengths a plan may change."""

    op: Op  # of the dense model
    live: tuple[int, ...]  # places in its lengths, at most two
    axes: tuple[int, ...]  # for each of those, the place in the term's axes
    scaled: tuple[int, ...]  # places in the term's axes that it is in proportion to

    @property
    def key(self) -> str:
        """The same for terms that share a table."""
        told = asdict(self.op.conv) if self.op.conv else None
        return json.dumps([self.op.kind, self.op.lengths, self.live, told])

    @property
    def grid(self) -> tuple[tuple[int, ...], ...]:
        """For each live length, the values that it is measured at."""
        return tuple(points(self.op.lengths[place]) for place in self.live)

    def at(self, values: Sequence[int]) -> Op:
        """The op with its live lengths set."""
        lengths = list(self.op.lengths)
        for place, value in zip(self.live, values, strict=True):
            lengths[place] = value
        return Op(self.op.kind, tuple(lengths), self.op.conv)


def points(length: int) -> tuple[int, ...]:
    """Multiples of a block at fractions of a length, up to where the length lies."""
    return tuple(sorted({max(BLOCK, -(-int(f * length) // BLOCK) * BLOCK) for f in FRACTIONS}))


def timed(term: Term, live: Sequence[bool]) -> Timed:
    """What to measure of a term; `live`: which of its axes a plan may cut."""
    sizes = [axis.size for axis in term.axes]
    if term.conv is not None and len(sizes) >= 2:
        return _convolution(term.conv, sizes, live)
    return _product(term.coefficient, sizes, live)


def _convolution(conv: Convolution, sizes: list[int], live: Sequence[bool]) -> Timed:
    if conv.groups > 1 and sizes[1] == 1:
        return Timed(Op("depthwise", (sizes[0],), conv), (0,) if live[0] else (), (0,) if live[0] else (), ())
    kind = "pointwise" if prod(conv.kernel) == 1 and conv.groups == 1 else "conv"
    if conv.groups > 1:  # what goes from such a layer keeps its shape: time is taken in proportion
        return Timed(Op(kind, (sizes[0], sizes[1] * conv.groups), conv), (), (), tuple(_where(live)))
    at = tuple(_where(live[:2]))
    return Timed(Op(kind, (sizes[0], sizes[1]), conv), at, at, ())


def _product(coefficient: int, sizes: list[int], live: Sequence[bool]) -> Timed:
    """The last three axes are rows, inner and columns; of fewer, what is missing is in the coefficient."""
    whole = [*sizes[-3:]] if len(sizes) >= 3 else [*sizes[-2:], *[1] * (2 - len(sizes)), coefficient]
    batch = coefficient * prod(sizes[:-3]) if len(sizes) >= 3 else 1
    first = max(len(sizes) - 3, 0)
    inner = [i for i in _where(live) if i >= first][-2:]
    rest = tuple(i for i in _where(live) if i not in inner)
    op = Op("gemm", (batch, *whole))
    return Timed(op, tuple(1 + i - first for i in inner), tuple(inner), rest)


def _where(live: Sequence[bool]) -> list[int]:
    return [i for i, alive in enumerate(live) if alive]
