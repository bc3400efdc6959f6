"""The pattern of zeros: so many of all weights, of each layer or of each row; or all but `keep` of every `of` inputs.

Counts are exact: a fraction is taken as the decimal that was written, so that 0.9 of 10 weights are 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import BadOption

Scope = Literal["global", "layer", "row"]
Rounding = Literal["down", "nearest", "up"]
Number = float | int | str | Fraction
FINEST = 10**9  # denominators of fractions


def exact(value: Number, name: str) -> Fraction:
    """The fraction that was meant, 0 < fraction < 1: 9/10 for 0.9, and 1/3 for the float next to it.

    That is the nearest fraction with a denominator of up to a thousand million: any decimal of up to nine digits as it
    is written. Raises `BadOption`.
    """
    told = f"{name}={value!r}: give the part of the weights that is to be zero, above 0 and below 1, as in {name}=0.5"
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        raise BadOption(told)
    try:
        found = Fraction(str(value)).limit_denominator(FINEST)
    except (ValueError, ZeroDivisionError) as error:
        raise BadOption(told) from error
    if not 0 < found < 1:
        raise BadOption(told + (f"; {value} % are {float(found) / 100:g}" if 1 < found < 100 else ""))
    return found


def rounded(amount: Fraction, rounding: Rounding) -> int:
    """A whole number: "down", "up", or "nearest", halves up."""
    if rounding == "nearest":
        return math.floor(amount + Fraction(1, 2))
    return math.floor(amount) if rounding == "down" else math.ceil(amount)


@dataclass(frozen=True)
class Pattern:
    """Which weights are zero: `Pattern(sparsity=0.5)`, or `Pattern(keep=2, of=4)`.

    `sparsity`: the part of the weights that is zero, as a number, a Fraction or a string ("9/10"). `scope`: what it is
    a part of, each ranked by itself: "global", all weights together; "layer", each weight tensor; "row", the inputs of
    each output. None: what the criterion's paper does. `rounding`: how sparsity * number becomes a count; "down", never
    more zeros than asked, where nothing else is said.
    `keep`, `of`: of every `of` consecutive inputs of an output, in the matrix that is multiplied with, all but the
    `keep` best are zero. The inputs of a convolution are its channels, and in each its kernel, flattened.
    Raises `BadOption`.
    """

    sparsity: Number | None = None
    scope: Scope | None = None
    rounding: Rounding = "down"
    keep: int | None = None
    of: int | None = None

    def __post_init__(self) -> None:
        if (self.sparsity is None) == (self.keep is None and self.of is None):
            raise BadOption(f"{self!r}: give either sparsity=0.5, or both keep= and of=, as in Pattern(keep=2, of=4)")
        for name, kinds in (("scope", (*get_args(Scope), None)), ("rounding", get_args(Rounding))):
            if getattr(self, name) not in kinds:
                raise BadOption(f"{name}={getattr(self, name)!r}: choose one of {', '.join(map(repr, kinds))}")
        if self.sparsity is not None:
            exact(self.sparsity, "sparsity")
            return
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (self.keep, self.of))
        if not whole or self.keep is None or self.of is None or not 0 < self.keep < self.of:
            raise BadOption(
                f"keep={self.keep!r}, of={self.of!r}: give whole numbers, 0 < keep < of, as in keep=2, of=4"
            )
        if self.scope is not None:
            raise BadOption(f"scope={self.scope!r}: {self.keep} of every {self.of} inputs is a count of its own")

    @property
    def fraction(self) -> Fraction:
        """The part that is zero."""
        if self.of is not None and self.keep is not None:
            return Fraction(self.of - self.keep, self.of)
        assert self.sparsity is not None
        return exact(self.sparsity, "sparsity")

    def zeros(self, weights: int) -> int:
        """How many of so many weights are zero."""
        return rounded(self.fraction * weights, self.rounding)

    def __str__(self) -> str:
        if self.of is not None:
            return f"{self.keep} of every {self.of} inputs kept"
        where = {"global": "all weights", "layer": "each layer", "row": "each row", None: "the weights"}
        return f"{float(self.fraction):g} of {where[self.scope]} zero"


def lowest(scores: Tensor, count: int | Tensor) -> Tensor:
    """True at the `count` lowest along the last axis; of equal ones, at the first.

    `count`: one number, or one for each row, (..., 1).
    """
    if isinstance(count, Tensor):
        order = scores.argsort(dim=-1, stable=True)
        ranks = torch.empty_like(order).scatter_(-1, order, torch.arange(order.shape[-1]).to(order).expand_as(order))
        return ranks < count
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if count >= scores.shape[-1]:
        return torch.ones_like(scores, dtype=torch.bool)
    limit = scores.kthvalue(count, -1, keepdim=True).values
    below, equal = scores < limit, scores == limit
    missing = count - below.sum(-1, keepdim=True)
    return below | (equal & (equal.cumsum(-1) <= missing))


def shares(total: Tensor, sizes: Tensor) -> Tensor:
    """(..., parts) whole numbers in proportion to `sizes` that add up to `total` (...), by exact integers."""
    upto = total[..., None] * sizes.cumsum(-1) // sizes.sum(-1, keepdim=True).clamp(min=1)
    return upto.diff(prepend=torch.zeros_like(upto[..., :1]))
