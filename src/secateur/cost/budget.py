"""Budget: what may be left of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ..errors import BadBudget, NothingToDo
from .cost import Cost

FIELDS = ("macs", "params", "bytes", "activations", "latency_ms")


@dataclass(frozen=True)
class Budget:
    """What may be left, for each field either a fraction KEPT (0 < value <= 1) or an absolute amount (value > 1).

    Several fields at once must all hold. `macs` counts multiply-accumulates of one forward on the example, `params`
    parameters, `bytes` parameters and buffers as stored, `activations` the most bytes of activations at once,
    `latency_ms` milliseconds of one forward on the example, on `engine` (eager, compile, onnxruntime, openvino) with so
    many `threads`; a number up to 1 is a fraction here too. That is measured on this machine where it is asked, or for
    widths that fit its hardware (`round_to="auto"`).
    Raises `BadBudget` for 0, negative, NaN or infinite values, and when no field is given.
    """

    macs: float | None = None
    params: float | None = None
    bytes: float | None = None
    activations: float | None = None
    latency_ms: float | None = None
    engine: str = "eager"
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.fields:
            raise BadBudget(f"the budget names nothing; give one of {', '.join(FIELDS)} or more: Budget(macs=0.5)")
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
        if self.latency_ms is not None and dense.latency_ms is None:
            raise BadBudget(f"latency_ms={self.latency_ms:g}, and latency was not measured: see measure_latency")
        limits = {n: v * getattr(dense, n) if v <= 1 else float(v) for n, v in self.fields.items()}
        if all(getattr(dense, n) <= limit for n, limit in limits.items()):
            stated = ", ".join(f"{n}={v:g}" for n, v in self.fields.items())
            raise NothingToDo(f"nothing to do: the dense model ({dense}) meets the budget {stated} already")
        return limits

    @classmethod
    def parse(cls, text: str) -> Budget:
        """A budget from `macs=0.5,params=1e6`. Raises `BadBudget` that quotes the text."""
        found: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, value = (s.strip() for s in part.partition("="))
            if name not in (*FIELDS, "engine", "threads") or not equals:
                raise BadBudget(
                    f"{text!r} is no budget; write macs=0.5, params=1e6, bytes=2e6, activations=4e6 or "
                    "latency_ms=8,engine=onnxruntime, joined by commas"
                )
            try:
                found[name] = value if name == "engine" else int(value) if name == "threads" else float(value)
            except ValueError:
                raise BadBudget(f"{value!r} in {text!r} is not a number; write for instance {name}=0.5") from None
        return cls(**found)

    def __str__(self) -> str:
        told = [f"{n}={v:g}" for n, v in self.fields.items()]
        if self.latency_ms is not None or self.engine != "eager":
            told.append(f"engine={self.engine}")
        return ",".join([*told, *([f"threads={self.threads}"] if self.threads != 1 else [])])
