"""Synaptic flow: how much of what a network of absolute weights makes of ones passes through each unit. No data.

R is the sum of the outputs for an input of ones, with every weight replaced by its absolute value, biases by 0, batch,
layer, group, instance and RMS norms passed by, and activations that clip (ReLU6, hardtanh) as well. What remains of a
ReLU network is one of products and sums of positive numbers, in which the flow x * dR/dx of a unit is what comes in and
what goes out. All is in float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..graph.example import as_call, map_tensors, results
from ..graph.trace import undisturbed
from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector
from .readers import Reader, at_readers, readers

_PASSED = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "relu6", "hardtanh", "hardtanh_"}
LEAST = 1e-9  # of R: a group with less of it is cut off, and what is left is rounding


@collector("synflow")
class SynFlow(Collector):
    """Of each group: `flow`, (units,), the sum over the layers that read a unit of x * dR/dx, as a part of R.

    Of each weight of two axes or more: `through`, of its shape, |w| * dR/d|w| as a part of R.
    """

    data = False

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._biases = {w.bias for w in graph.trace.writers}
        self._through: dict[str, Tensor] = {}

    def values(self) -> dict[str, Fields]:
        """By group; those through which no flow, or a negative one, passes have none."""
        try:
            flows = self._flows()
        except Exception as error:  # whatever the user's forward raises on ones in float64
            why = f"the model does not run on ones in float64 ({str(error).splitlines()[0]})"
            self.missing |= {g.name: why for g in self.graph.groups}
            return {}
        found: dict[str, Fields] = {}
        for name, flow in flows.items():
            if not torch.isfinite(flow).all():
                self.missing[name] = "the flow through the network is 0, or overflows float64"
            elif flow.min() < -LEAST * flow.abs().sum():
                self.missing[name] = "the flow through it is negative, which attention or a norm by hand makes it"
            elif flow.sum() < LEAST:
                self.missing[name] = "no flow passes through it: it is dead, or an activation saturates"
            else:
                found[name] = {"flow": flow}
        for name, through in self._through.items():
            if not torch.isfinite(through).all():
                self.missing[name] = "the flow through the network is 0, or overflows float64"
            elif through.min() < -LEAST * through.abs().sum():
                self.missing[name] = "the flow through it is negative, which attention or a norm by hand makes it"
            else:
                found[name] = found.get(name, {}) | {"through": through.clamp(min=0.0)}
        return found

    def _flows(self) -> dict[str, Tensor]:
        """Group -> (units,), NaN where R is 0."""
        model, read = self.graph.model, list[tuple[Reader, Tensor, int]]()
        with undisturbed(model), torch.enable_grad():
            held = {n: self._positive(n, p).requires_grad_(p.is_floating_point()) for n, p in model.named_parameters()}
            held |= {n: _wide(b) for n, b in model.named_buffers()}
            call = map_tensors(as_call(self.graph.example), lambda t: _wide(torch.ones_like(t)) if _real(t) else t)
            seen = at_readers(self.graph, readers(self.graph), lambda *found: read.append(found))
            with _Passed(), seen:
                outputs = results(torch.func.functional_call(model, held, *call))
            total = torch.stack([t.sum().cpu() for t in outputs if _real(t)]).sum()
            weights = {n: held[n] for n, p in model.named_parameters() if _real(p) and p.dim() > 1}
            gradients = torch.autograd.grad(total, [*(x for _, x, _ in read), *weights.values()], allow_unused=True)
        for (name, weight), gradient in zip(weights.items(), gradients[len(read) :], strict=True):
            if gradient is not None:
                self._through[name] = (weight.detach() * gradient).cpu() / total.detach()
        flows: dict[str, Tensor] = {}
        for (reader, x, axis), gradient in zip(read, gradients[: len(read)], strict=True):
            if gradient is not None:
                each = (x.detach() * gradient).movedim(axis, -1).flatten(0, -2).sum(0).cpu() / total.detach()
                for name in reader.groups:
                    flow = reader.per_unit(name, each)
                    flows[name] = flows[name] + flow if name in flows else flow
        return flows

    def _positive(self, name: str, parameter: Tensor) -> Tensor:
        bias = name in self._biases or "bias" in name.rpartition(".")[2]
        return _wide(parameter.detach().abs() * (not bias)).clone()


def _real(t: Tensor) -> bool:
    return t.is_floating_point()


def _wide(t: Tensor) -> Tensor:
    return t.detach().double() if _real(t) else t.detach()


class _Passed(TorchFunctionMode):
    """Functions that give back what they are given."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _PASSED:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)
