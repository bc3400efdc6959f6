"""What random networks are made of: values, and the registry of ops.

An op is a module whose options are plain data. `choose` draws the options, or says None where the op does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import nn

Pick = Callable[[Sequence[Any]], Any]
WIDTHS = (4, 6, 8, 12, 2, 3, 9)
AXIS = {"I": 1, "T": 2, "V": 1, "H": 3}  # image (B,C,H,W), tokens (B,T,C), vector (B,C), image (B,H,W,C)


class Value(NamedTuple):
    """A tensor of the network: what kind it is, and its shape."""

    tag: str
    shape: tuple[int, ...]

    @property
    def axis(self):
        return AXIS[self.tag]

    @property
    def width(self):
        return self.shape[self.axis]


class Op(nn.Module):
    """One op; `values` are what it reads."""

    takes = "ITV"
    gives = ""  # the tag of what it gives; empty: that of what it reads

    @classmethod
    def choose(cls, pick: Pick, value: Value, widths: Sequence[int]) -> dict[str, Any] | None:
        """Options for an op that reads `value`; `widths` are good choices for a new width."""
        return {}


OPS: dict[str, type[Op]] = {}


def op(name: str):
    def register(cls):
        OPS[name] = cls
        return cls

    return register


def divisors(n: int, *, one: bool = False) -> list[int]:
    return [d for d in range(1 if one else 2, n + 1) if n % d == 0]


def in_code(*numbers: int) -> Callable[[], tuple[int, ...]]:
    """Numbers that stand in the code of a forward, where no cut can rewrite them."""
    return lambda: numbers


def along(t, dims, axis):
    """A vector shaped to act along `axis` of a tensor of `dims` axes."""
    return t.view(-1, *[1] * (dims - 1 - axis))
