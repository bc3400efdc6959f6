"""Second derivatives by double backprop: the Hessian of each batch's loss times one vector, never the Hessian.

Gates of ones stand where layers read a unit, as in `gradients`; the Hessian of all gates is multiplied with ones. With
v = g, the gradients of all weights, H v is half the gradient of |g|^2.
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
from .readers import Read, Reader, unread

Named = Mapping[str, Tensor | None]
# How torch says that an op has no second derivative.
_ONCE = ("not implemented", "differentiate twice", "double backward", "once_differentiable")


@collector("curvature")
class Curvature(Collector):
    """Of each group, with g = dL/dgate and h = (Hessian of all gates) 1: sums over batches of `product` h and `square`
    (g - h/2)^2, (units,); `count`, and `uses` as in `gradients`. Of each weight of two axes or more: `flow`, the sum
    over batches of H g, of its shape, where H and g are those of all such weights together; `count`.
    """

    reads = differentiates = twice = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        like = next((p for p in graph.model.parameters() if p.is_floating_point()), torch.ones(0))
        self.missing = unread(graph)
        held = [g for g in graph.groups if g.name not in self.missing]
        self._gates = {g.name: like.new_ones(g.size, requires_grad=True) for g in held}
        self._weights = [n for n, p in graph.model.named_parameters() if p.is_floating_point() and p.dim() > 1]
        self._sums = {name: torch.zeros(2, len(z), dtype=torch.float64) for name, z in self._gates.items()}
        self._tensors: dict[str, set[tuple[int, int]]] = {}
        self._flow: dict[str, Tensor] = {}
        self._count = 0

    def parameters(self) -> Collection[str]:
        """All weights."""
        return self._weights

    def gates(self) -> Mapping[str, Tensor]:
        """One of each group."""
        return {_gate(name): z for name, z in self._gates.items()}

    def gate(self, reader: Reader, x: Tensor, axis: int) -> Tensor:
        """What is read of each unit, times its gate."""
        factor = torch.ones(x.shape[axis], dtype=x.dtype, device=x.device)
        for name, index in reader.groups.items():
            each = self._gates[name].to(x).repeat_interleave(index.shape[1])
            factor = factor.index_put((index.reshape(-1).to(x.device),), each)
        return x * factor.reshape(-1, *[1] * (x.dim() - 1 - axis)) if x.is_floating_point() else x

    def read(self, read: Read) -> None:
        """Count what is read."""
        if not self._count:
            for name in read.reader.groups:
                self._tensors.setdefault(name, set()).add(read.tensor)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Fused attention has no second derivative; the same, written out, has."""
        with sdpa_kernel(SDPBackend.MATH):
            yield

    def batch(self, gradients: Named, held: Mapping[str, Tensor]) -> None:
        """One more."""
        try:
            if not self._count:
                check_twice(gradients)
            gates = hessian_product(gradients, {n: torch.ones_like(z) for n, z in self.gates().items()}, held)
            flow = hessian_product(gradients, {n: gradients[n] for n in self._weights}, held)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _ONCE):
                raise
            why = f"the loss cannot be differentiated twice ({str(error).splitlines()[0]})"
            self.missing |= dict.fromkeys([*self._sums, *self._weights], why)
            return
        self._count += 1
        for name, sums in self._sums.items():
            found = [each[_gate(name)] for each in (gradients, gates)]
            g, h = (torch.zeros(sums.shape[1:]) if f is None else f.detach().to("cpu", torch.float64) for f in found)
            sums += torch.stack([h, (g - h / 2) ** 2])
        for name, product in flow.items():
            if product is not None:
                self._flow[name] = self._flow[name].add_(product) if name in self._flow else product

    def values(self) -> dict[str, Fields]:
        """By group, and by weight."""
        count = torch.tensor(self._count)
        found: dict[str, Fields] = {n: {} for n in (*self._sums, *self._weights) if n not in self.missing}
        for name, sums in self._sums.items():
            if name in found:
                uses = torch.tensor(len(self._tensors.get(name, ())))
                found[name] |= {"product": sums[0], "square": sums[1], "count": count, "uses": uses}
        for name in self._weights:
            if name in found:
                flow = self._flow.get(name)
                weight = self.graph.model.get_parameter(name)
                found[name] |= {"flow": torch.zeros_like(weight.detach()) if flow is None else flow, "count": count}
        return found


def _gate(group: str) -> str:
    return f"the gate of {group}"


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
