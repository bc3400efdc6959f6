"""Final responses: how important each input of the last layer is, and what that makes every unit before it worth.

The importance of an input is the mean of its absolute value times the L2 norm of the weights that it meets.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..groups.graph import Graph
from .activations import by_position
from .base import Collector, Fields, Sampling, collector
from .products import AtProducts, Product
from .surrogate import Norms, last_layer, propagate


@collector("final_responses")
class FinalResponses(Collector):
    """Of each group, (units,): `identity` and `scaled`, the importance of what the last layer reads, carried back
    through a linear surrogate of the model in which batch norms do nothing, or scale. Of the weight of the last layer:
    `responses` (inputs,), the importance itself.
    """

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._last = last_layer(graph)
        self._sum: Tensor | None = None
        self._count = 0
        self._now: tuple[Tensor, int] | None = None

    def watching(self) -> AbstractContextManager[None]:
        """The last layer."""
        if self._last is None or self._last.weight is None:
            return nullcontext()
        return AtProducts(self.graph.model, self.see, {self._last.weight})

    def see(self, product: Product) -> None:
        """What the last layer reads."""
        x = product.x.movedim(1, -1).flatten(0, -2)
        if len(x):  # of a layer that runs twice, the last time counts
            self._now = x.abs().sum(0, dtype=torch.float64).cpu(), len(x)

    def batch(self, *_: object) -> None:
        """One more."""
        if self._now is not None:
            total, count = self._now
            self._sum, self._count = total if self._sum is None else self._sum + total, self._count + count
        self._now = None

    def importance(self, weights: Tensor) -> Tensor | None:
        """(inputs,), from 0 up, by the (inputs, rest) weights that they meet; None where nothing was seen."""
        if self._sum is None:
            return None
        return self._sum / self._count * torch.linalg.vector_norm(weights, dim=1).to("cpu", torch.float64)

    def values(self) -> dict[str, Fields]:
        """By group, and of the last weight."""
        weights = None if self._last is None else by_position(self.graph, self._last)
        responses = None if weights is None else self.importance(weights)
        if self._last is None or self._last.weight is None or responses is None:
            return self._without("the model has no last layer whose weight and inputs can be seen", {})
        found: dict[str, Fields] = {self._last.weight: {"responses": responses}}
        try:
            each = {norms: propagate(self.graph, responses, norms=norms) for norms in _NORMS}
        except Exception as error:  # whatever the user's forward raises where activations are not what they were
            return self._without(f"no linear surrogate of the model can be run: {str(error).splitlines()[0]}", found)
        for group in self.graph.groups:
            fields: Fields = {norms: scores[group.name] for norms, scores in each.items() if group.name in scores}
            if len(fields) < len(_NORMS):
                self.missing[group.name] = f"the last layer, {self._last.path!r}, reads nothing that comes from it"
            elif not all(bool(torch.isfinite(f).all()) for f in fields.values()):
                self.missing[group.name] = "what is carried back to it overflows float64"
            else:
                found[group.name] = fields
        return found

    def _without(self, why: str, found: dict[str, Fields]) -> dict[str, Fields]:
        self.missing |= {g.name: why for g in self.graph.groups}
        return found


_NORMS: tuple[Norms, ...] = ("identity", "scaled")
