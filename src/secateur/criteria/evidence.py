"""Evidence: what criteria score from, collected in one pass over the data for all criteria asked for at once.

The gate of a unit multiplies what each layer writes for it, after that layer's batch norm where one follows; all layers
that write a group share one gate. Its gradient needs no gate in the model: for a scale and shift it is
gamma * dL/dgamma + beta * dL/dbeta, for a layer without a norm sum(w * dL/dw) + b * dL/db over the unit's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadModel, NeedsData
from ..graph.example import as_call
from ..graph.trace import undisturbed
from ..groups.graph import Graph
from ..groups.group import Group, Source

Loss = Callable[[Any, Any], Tensor]
Batches = Iterable[tuple[Any, Any]]


@dataclass
class Moments:
    """Streamed sums over batches of a quantity per unit, (units,) float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(0))
    square: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, value: Tensor) -> None:
        """One more batch."""
        first = self.count == 0
        self.total = value.clone() if first else self.total + value
        self.square = value**2 if first else self.square + value**2
        self.count += 1

    @property
    def mean_square(self) -> Tensor:
        """Mean over batches of the square."""
        return self.square / self.count


@dataclass
class Evidence:
    """Weights as they are, and the streamed gate gradients of each group."""

    model: nn.Module
    gates: dict[str, Moments] = field(default_factory=dict)  # group name -> dL/dgate over batches
    seed: int = 0

    def weight(self, name: str) -> Tensor:
        """A parameter, detached."""
        return self.model.get_parameter(name).detach()


def collect(
    graph: Graph,
    needs: Collection[str],
    *,
    batches: Batches | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> Evidence:
    """One pass over `batches` of (inputs, targets), in eval mode, for everything in `needs`.

    `loss(output, target)` is a scalar, cross entropy by default. The model is not touched: no `.grad` is written.
    Raises `NeedsData` when data is needed and none is given, when the batches are empty, or a loss is not finite.
    """
    evidence = Evidence(graph.model, seed=seed)
    if "gradients" in needs:
        if batches is None:
            raise NeedsData(
                "this criterion needs gradients: give batches=[(inputs, targets), ...], and loss= if not cross entropy"
            )
        _gate_gradients(graph, evidence, batches, loss or nn.functional.cross_entropy)
    return evidence


def _gate_gradients(graph: Graph, evidence: Evidence, batches: Batches, loss: Loss) -> None:
    model = graph.model
    names = sorted({n for g in graph.groups for s in g.sources for n, _ in gate_parameters(s)})
    held = {n: p.detach().requires_grad_(n in names) for n, p in model.named_parameters()}
    seen = 0
    with undisturbed(model), torch.enable_grad():
        for number, (inputs, target) in enumerate(batches):
            args, kwargs = as_call(inputs)
            value = loss(torch.func.functional_call(model, held, args, kwargs), target)
            if not torch.isfinite(value).all():
                raise NeedsData(f"batch {number} gives a loss of {value.item()}; scores from it would mean nothing")
            if not value.requires_grad:
                raise NeedsData(
                    "the loss does not depend on the model's parameters, so there is no gradient to score from"
                )
            found = torch.autograd.grad(value, [held[n] for n in names], allow_unused=True)
            gradients = dict(zip(names, found, strict=True))
            for group in graph.groups:
                evidence.gates.setdefault(group.name, Moments()).add(gate_gradient(model, group, gradients))
            seen += 1
    if not seen:
        raise NeedsData("the batches are empty; give at least one (inputs, targets)")


def gate_parameters(source: Source) -> list[tuple[str, int]]:
    """The parameters whose gradients give the gate's, and the axis written: of the norm behind, else of the layer."""
    writer, norm = source.writer, source.writer.norm
    if norm is not None and norm.weight is not None:
        return [(n, 0) for n in (norm.weight, norm.bias) if n is not None]
    if writer.weight is None:
        raise BadModel(
            f"the weight of {writer.path!r} is computed and no batch norm with a scale follows, so its gate has "
            f"no gradient of its own; use frozen={writer.path!r}"
        )
    return [(n, a) for n, a in ((writer.weight, writer.weight_axis), (writer.bias, 0)) if n is not None]


def gate_gradient(model: nn.Module, group: Group, gradients: Mapping[str, Tensor | None]) -> Tensor:
    """dL/dgate of each unit, summed over the layers that share the gate: (units,) float64."""
    total = torch.zeros(group.size, dtype=torch.float64)
    seen: set[str] = set()
    for source in group.sources:
        index = torch.from_numpy(source.index.reshape(-1))
        for name, axis in gate_parameters(source):
            gradient = gradients[name]
            if gradient is None or name in seen:
                continue  # the gradient of a parameter that is used twice is the sum over its uses already
            seen.add(name)
            product = (model.get_parameter(name).detach() * gradient).to("cpu", torch.float64).movedim(axis, 0)
            total += product.reshape(product.shape[0], -1).sum(1)[index].reshape(group.size, -1).sum(1)
    return total
