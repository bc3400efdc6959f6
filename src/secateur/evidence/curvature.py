"""Second derivatives by double backprop: the Hessian of each batch's loss times one vector, never the Hessian.

With v = p over the parameters that stand for gates (`gradients.gate_parameters`) and 0 elsewhere, p * (H v) summed
over a unit is the Hessian of the gates times ones. With v = g, the gradients of all weights, H v is half the gradient
of |g|^2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector
from .gradients import gate_gradient, gate_index, gate_parameters, gated, idle, lost, uses
from .uses import key

Named = Mapping[str, Tensor | None]
# How torch says that an op has no second derivative.
_ONCE = ("not implemented", "differentiate twice", "double backward", "once_differentiable")


@collector("curvature")
class Curvature(Collector):
    """Of each group, with g = dL/dgate and h = (Hessian of all gates) 1: sums over batches of `product` h and `square`
    (g - h/2)^2, (units,); `count`. Of each weight of two axes or more: `flow`, the sum over batches of H g, of its
    shape, where H and g are those of all such weights together; `count`.
    """

    differentiates = twice = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._groups, self.missing = gated(graph)
        self._uses = uses(graph, self._groups)
        self._weights = [n for n, p in graph.model.named_parameters() if p.is_floating_point() and p.dim() > 1]
        self._gates: dict[str, list[tuple[int, Tensor]]] = {}  # parameter -> where its gates are
        for group in self._groups:
            for source in group.sources:
                for name, axis in gate_parameters(source):
                    use = key((name, axis))
                    owner = use if (name, axis) in self._uses.wanted else name
                    self._gates.setdefault(owner, []).append((axis, gate_index(group, name, axis)))
        self._sums = {g.name: torch.zeros(2, g.size, dtype=torch.float64) for g in self._groups}
        self._flow: dict[str, Tensor] = {}
        self._count = 0

    def parameters(self) -> Collection[str]:
        """Of gates, and all weights."""
        return {*self._weights, *(n for g in self._groups for s in g.sources for n, _ in gate_parameters(s))}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Fused attention has no second derivative; the same, written out, has."""
        with sdpa_kernel(SDPBackend.MATH), self._uses:
            yield

    def batch(self, gradients: Named, held: Mapping[str, Tensor]) -> None:
        """One more."""
        written, aliases = self._uses.take()
        gradients, held = {**gradients, **written}, {**held, **aliases}
        try:
            if not self._count:
                self.missing |= lost(self._uses, self._groups)
                self.missing |= idle(self.graph.model, self._groups, gradients)
                check_twice(gradients)
            direction = {n: self._scaled(held[n], n) for n in self._gates if n in held}
            gates = dict.fromkeys(self._gates) | hessian_product(gradients, direction, held)
            flow = hessian_product(gradients, {n: gradients[n] for n in self._weights}, held)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _ONCE):
                raise
            why = f"the loss cannot be differentiated twice ({str(error).splitlines()[0]})"
            self.missing |= dict.fromkeys([*self._sums, *self._weights], why)
            return
        self._count += 1
        for group in self._groups:
            g, h = (gate_gradient(self.graph.model, group, found) for found in (gradients, gates))
            self._sums[group.name] += torch.stack([h, (g - h / 2) ** 2])
        for name, product in flow.items():
            if product is not None:
                self._flow[name] = self._flow[name].add_(product) if name in self._flow else product

    def _scaled(self, parameter: Tensor, name: str) -> Tensor:
        """The parameter where gates stand on it, else 0."""
        direction = torch.zeros_like(parameter)
        for axis, at in self._gates[name]:
            index = at.to(parameter.device)
            direction.index_copy_(axis, index, parameter.detach().index_select(axis, index))
        return direction

    def values(self) -> dict[str, Fields]:
        """By group, and by weight."""
        count = torch.tensor(self._count)
        found: dict[str, Fields] = {n: {} for n in (*self._sums, *self._weights) if n not in self.missing}
        for name, sums in self._sums.items():
            if name in found:
                found[name] |= {"product": sums[0], "square": sums[1], "count": count}
        for name in self._weights:
            if name in found:
                flow = self._flow.get(name)
                weight = self.graph.model.get_parameter(name)
                found[name] |= {"flow": torch.zeros_like(weight.detach()) if flow is None else flow, "count": count}
        return found


def check_twice(gradients: Named) -> None:
    """Raise `RuntimeError` where a function is marked as differentiable once: torch would take it for a constant."""
    ahead = [g.grad_fn for g in gradients.values() if g is not None]
    seen: set[Any] = set()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [n for n, _ in node.next_functions]
            if node.name().endswith("::Error"):
                raise RuntimeError("a function on the way is marked once_differentiable")


def hessian_product(gradients: Named, direction: Named, held: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """H v for the parameters named in `direction`, v, by differentiating <g, v>; None where it is 0.

    `gradients` must be differentiable. A loss that is linear has gradients that hang on nothing: all are None.
    """
    wanted = [n for n in direction if held[n].requires_grad]
    pairs = [(g, v.detach()) for n, v in direction.items() if v is not None and (g := gradients[n]) is not None]
    pairs = [(g, v) for g, v in pairs if g.requires_grad]
    none: dict[str, Tensor | None] = dict.fromkeys(direction)
    if not pairs:
        return none
    outputs, vectors = zip(*pairs, strict=True)
    found = torch.autograd.grad(outputs, [held[n] for n in wanted], vectors, retain_graph=True, allow_unused=True)
    return none | dict(zip(wanted, found, strict=True))
