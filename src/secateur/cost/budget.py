"""Budget: what may be left of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from ..errors import BadBudget, NothingToDo
from .cost import Cost

FIELDS = ("macs", "params", "bytes", "activations")


@dataclass(frozen=True)
class Budget:
    """What may be left, for each field either a fraction KEPT (0 < value <= 1) or an absolute amount (value > 1).

    Several fields at once must all hold. `macs` counts multiply-accumulates of one forward on the example, `params`
    parameters, `bytes` parameters and buffers as stored, `activations` the most bytes of activations at once.
    Raises `BadBudget` for 0, negative, NaN or infinite values, and when no field is given.
    """

    macs: float | None = None
    params: float | None = None
    bytes: float | None = None
    activations: float | None = None

    def __post_init__(self) -> None:
        if not self.fields:
            raise BadBudget(
                "the budget names nothing; give one of macs, params, bytes, activations or more: Budget(macs=0.5)"
            )
        for name, value in self.fields.items():
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
                raise BadBudget(
                    f"{name}={value!r} is no budget; give the fraction to keep, as in {name}=0.5, or an absolute amount"
                )

    @property
    def fields(self) -> dict[str, float]:
        """The fields that were given."""
        return {n: v for n in FIELDS if (v := getattr(self, n)) is not None}

    def limits(self, dense: Cost) -> dict[str, float]:
        """Absolute limits for a model whose dense cost is given.

        Raises `NothingToDo` when the dense model meets them all already.
        """
        limits = {n: v * getattr(dense, n) if v <= 1 else float(v) for n, v in self.fields.items()}
        if all(getattr(dense, n) <= limit for n, limit in limits.items()):
            stated = ", ".join(f"{n}={v:g}" for n, v in self.fields.items())
            raise NothingToDo(f"nothing to do: the dense model ({dense}) meets the budget {stated} already")
        return limits

    @classmethod
    def parse(cls, text: str) -> Budget:
        """A budget from `macs=0.5,params=1e6`. Raises `BadBudget` that quotes the text."""
        fields: dict[str, float] = {}
        for part in text.split(","):
            name, equals, value = (s.strip() for s in part.partition("="))
            if name not in FIELDS or not equals:
                raise BadBudget(
                    f"{text!r} is no budget; write macs=0.5, params=1e6, bytes=2e6 or activations=4e6, joined by commas"
                )
            try:
                fields[name] = float(value)
            except ValueError:
                raise BadBudget(f"{value!r} in {text!r} is not a number; write for instance {name}=0.5") from None
        return cls(**fields)

    def __str__(self) -> str:
        return ",".join(f"{n}={v:g}" for n, v in self.fields.items())
