"""What pruning of single weights gives: a model with zeros, the masks, and what they buy on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..surgery.checkpoint import Origin, load, load_masks
from ..surgery.cut import Edits, copied, forget
from .hold import Hold
from .layout import Layout
from .measure import Timing, compressed_bytes, measured

SHOWN = 12  # layers that are printed


@dataclass(frozen=True)
class Count:
    """Zeros of one weight."""

    zeros: int
    size: int


@dataclass(frozen=True, eq=False)
class Sparse:
    """A model with zeros, and the masks that say where: parameter -> bool of its shape, True = kept.

    `left`: parameters that were not touched, and why.
    """

    model: nn.Module = field(repr=False)
    masks: dict[str, Tensor] = field(repr=False)
    how: str  # criterion and pattern
    origin: Origin = field(repr=False)
    layouts: dict[str, Layout | str] = field(repr=False, default_factory=dict)
    left: dict[str, str] = field(repr=False, default_factory=dict)

    @property
    def counts(self) -> dict[str, Count]:
        """Of each masked weight."""
        return {n: Count(int((~m).sum()), m.numel()) for n, m in self.masks.items()}

    @property
    def sparsity(self) -> float:
        """The part of all masked weights that is zero."""
        counts = self.counts.values()
        return sum(c.zeros for c in counts) / max(sum(c.size for c in counts), 1)

    def hold(self) -> Hold:
        """A hook for training, `fit(..., hooks=[sparse.hold()])`: what is zero stays zero."""
        return Hold(self.masks)

    def on(self, model: nn.Module) -> Sparse:
        """The same masks on a copy of another model of the same shapes. Raises `BadModel` where they do not fit."""
        made = copied(model, Edits({}, {}))
        Hold(self.masks).on_start(made)
        forget(made)
        return replace(self, model=made)

    @property
    def bytes(self) -> tuple[int, int]:
        """(dense, compressed): what the masked weights take as they are, and as compressed rows with int32 indices."""
        parameters = dict(self.model.named_parameters())
        sizes = {n: parameters[n].element_size() for n in self.masks}
        dense = sum(m.numel() * sizes[n] for n, m in self.masks.items())
        return dense, sum(compressed_bytes(self._matrix(n, m), sizes[n]) for n, m in self.masks.items())

    def measure(self, *, batch: int = 32, repeats: int = 11) -> Timings:
        """Time each masked weight as a product of matrices on this CPU, with and without its zeros."""
        parameters = dict(self.model.named_parameters())
        matrices = {n: self._matrix(n, parameters[n].detach()) for n in self.masks}
        return Timings({n: measured(m, batch=batch, repeats=repeats) for n, m in matrices.items()})

    def _matrix(self, name: str, tensor: Tensor) -> Tensor:
        layout = self.layouts.get(name)
        return layout.matrix(tensor) if isinstance(layout, Layout) else tensor.flatten(1)

    @property
    def about(self) -> dict[str, Any]:
        """What `save` stores beside weights and masks."""
        layouts = {n: x if isinstance(x, str) else asdict(x) for n, x in self.layouts.items()}
        return {"how": self.how, "layouts": layouts, "left": self.left}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, into: nn.Module) -> Sparse:
        """What `secateur.save` stored, on a copy of `into`, a fresh instance of the original class.

        Raises `CheckpointError`, `WrongArchitecture`.
        """
        model = load(path, into=into)
        masks, origin, about = load_masks(Path(path))
        parameters = dict(model.named_parameters())
        placed = {n: m.to(parameters[n].device) for n, m in masks.items()}
        return cls(model, placed, about["how"], origin, _layouts(about["layouts"]), about["left"])

    def __str__(self) -> str:
        counts = self.counts
        dense, compressed = self.bytes
        zeros, size = sum(c.zeros for c in counts.values()), sum(c.size for c in counts.values())
        shown = [f"  {n}: {c.zeros} of {c.size} zero" for n, c in list(counts.items())[:SHOWN]]
        more = [f"  and {len(counts) - SHOWN} more"] if len(counts) > SHOWN else []
        return "\n".join(
            [
                f"{zeros} of {size} weights zero ({self.sparsity:.4g}) in {len(counts)} layers, by {self.how}",
                *shown,
                *more,
                "Zeros alone make nothing faster or smaller here: layers multiply with them as with any number, and "
                f"these take {dense} bytes as before. As compressed rows (int32 indices) they would take {compressed}. "
                "`measure()` times both ways on this machine.",
            ]
        )


@dataclass(frozen=True)
class Timings:
    """By weight; prints as a table."""

    rows: Mapping[str, Timing]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {timing}" for name, timing in self.rows.items())


def _layouts(stored: Mapping[str, Any]) -> dict[str, Layout | str]:
    def made(x: Any) -> Layout | str:
        if isinstance(x, str):
            return x
        shape, view, rows, inputs = (tuple(x[key]) for key in ("shape", "view", "rows", "inputs"))
        return Layout(x["name"], shape, view, rows, inputs)

    return {name: made(x) for name, x in stored.items()}
