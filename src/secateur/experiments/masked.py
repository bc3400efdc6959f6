"""A model measured with units masked, on the same batches each time; the model is not touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .. import files
from ..allocation.objective import Objective
from ..errors import BadOption, NeedsData
from ..evidence.base import Batches
from ..graph.example import tensors
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..surgery.mask import masked_forward

Measure = Callable[[Any, Any], Any]  # (output, target) -> a number, the mean over the examples of a batch
Kept = Mapping[str, Iterable[int]]


@dataclass(frozen=True, eq=False)
class Held:
    """Batches of (inputs, targets), kept in memory; `examples` (batches,) float64 says how many each holds."""

    pairs: tuple[tuple[Any, Any], ...]
    examples: Tensor

    @classmethod
    def of(cls, batches: Batches) -> Held:
        """Reads the batches once. Raises `NeedsData` where there are none."""
        pairs = tuple((x, y) for x, y in batches)
        if not pairs:
            raise NeedsData("the batches are empty; give at least one (inputs, targets)")
        first = [next((t for t in tensors(x) if t.dim()), None) for x, _ in pairs]
        sizes = [1 if t is None else t.shape[0] for t in first]
        return cls(pairs, torch.tensor(sizes, dtype=torch.float64))

    def fingerprint(self) -> str:
        """Changes with any bit of any input or target."""
        every = [t.detach().cpu().contiguous() for t in tensors(self.pairs)]
        return files.checksum({str(i): t for i, t in enumerate(every)}, "")


def weighted(values: Tensor, examples: Tensor) -> Tensor:
    """(..., batches) -> (...), the mean over all examples of means over batches of `examples` (batches,)."""
    return (values * examples).sum(-1) / examples.sum()


def measured(graph: Graph, held: Held, kept: Kept, measures: Sequence[Measure]) -> Tensor:
    """(measures, batches) float64: what each measure says of the model when groups keep only these units.

    Groups that `kept` does not name stay whole. Batches must lie on the model's device.
    Raises `BadOption` for a measure that gives more than one number.
    """
    units = {name: np.fromiter(u, dtype=np.int64) for name, u in kept.items()}
    alive = torch.from_numpy(graph.alive(units))
    found = torch.empty(len(measures), len(held.pairs), dtype=torch.float64)
    for batch, (inputs, target) in enumerate(held.pairs):
        output = masked_forward(graph.model, graph.trace, inputs, alive)
        with torch.no_grad():
            for number, measure in enumerate(measures):
                found[number, batch] = _one(measure(output, target))
    return found


def _one(value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise BadOption(f"a loss or metric gives {tuple(value.shape)} numbers a batch; give their mean")
    return float(value)


def masked_loss(graph: Graph, batches: Batches, loss: Measure = cross_entropy) -> Objective:
    """The loss of the model with what a plan removes masked, as an objective for allocators that search.

    `batches` yields (inputs, targets), on the model's device, and is read once; `loss(output, target)` is a batch's
    mean. Foldings and merges of a plan do not count. Raises `NeedsData` where there are no batches.
    """
    held = Held.of(batches)

    def objective(plan: Plan) -> float:
        return float(weighted(measured(graph, held, plan.kept, [loss]), held.examples)[0])

    return objective
