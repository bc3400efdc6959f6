"""Synaptic flow: how much of what a network of absolute weights makes of ones passes through each unit. No data.

R is the sum of the outputs for an input of ones, with every weight replaced by its absolute value, biases by 0, batch,
layer, group, instance and RMS norms passed by, and activations that clip (ReLU6, hardtanh) as well. What remains of a
ReLU network is one of products and sums of positive numbers, in which the flow x * dR/dx of a unit is what comes in and
what goes out. All is in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite
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


class _Flow(Collector):
    """What both kinds share: the network of absolute weights, run on ones."""

    data = False

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._biases = {w.bias for w in graph.trace.writers}

    def owners(self) -> Collection[str]:
        """Who has evidence of this kind, where there is any."""
        raise NotImplementedError(f"{type(self).__name__} does not define owners()")

    def passing(self) -> dict[str, Tensor]:
        """Owner -> its part of R, not checked."""
        raise NotImplementedError(f"{type(self).__name__} does not define passing()")

    def passed(self) -> dict[str, Tensor]:
        """Owner -> its part of R, of either sign by rounding alone; the others are missing."""
        try:
            flows = self.passing()
        except Exception as error:  # whatever the user's forward raises on ones in float64
            why = f"the model does not run on ones in float64 ({str(error).splitlines()[0]})"
            self.missing |= dict.fromkeys(self.owners(), why)
            return {}
        found: dict[str, Tensor] = {}
        for name, flow in flows.items():
            size = float(torch.linalg.vector_norm(flow, 1))  # a tensor of booleans would be one more of its size
            if not isfinite(size):
                self.missing[name] = "the flow through the network is 0, or overflows float64"
            elif float(flow.min()) < -LEAST * size:
                self.missing[name] = "the flow through it is negative, which attention or a norm by hand makes it"
            else:
                found[name] = flow
        return found

    @contextmanager
    def run(self, seen: Callable[[Reader, Tensor, int], None]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """R, and the absolute weights it is made of, in float64: copies, as the model's own must stay as they are."""
        model = self.graph.model
        with undisturbed(model), torch.enable_grad():
            held = {n: self._positive(n, p).requires_grad_(_real(p)) for n, p in model.named_parameters()}
            buffers = {n: _wide(b) for n, b in model.named_buffers()}
            call = map_tensors(as_call(self.graph.example), lambda t: _wide(torch.ones_like(t)) if _real(t) else t)
            with _Passed(), at_readers(self.graph, readers(self.graph), seen):
                outputs = results(torch.func.functional_call(model, held | buffers, *call))
            yield torch.stack([t.sum().cpu() for t in outputs if _real(t)]).sum(), held

    def _positive(self, name: str, parameter: Tensor) -> Tensor:
        if not _real(parameter):
            return parameter.detach().clone()
        bias = name in self._biases or "bias" in name.rpartition(".")[2]
        copy = parameter.detach().to(torch.float64, copy=True)
        return copy.zero_() if bias else copy.abs_()


@collector("synflow")
class SynFlow(_Flow):
    """Of each group: `flow`, (units,), the sum over the layers that read a unit of x * dR/dx, as a part of R."""

    def owners(self) -> Collection[str]:
        """Groups."""
        return [g.name for g in self.graph.groups]

    def values(self) -> dict[str, Fields]:
        """By group; those through which no flow, or a negative one, passes have none."""
        found = self.passed()
        for name in [n for n, flow in found.items() if flow.sum() < LEAST]:
            self.missing[name] = "no flow passes through it: it is dead, or an activation saturates"
            del found[name]
        return {n: {"flow": flow} for n, flow in found.items()}

    def passing(self) -> dict[str, Tensor]:
        """Group -> (units,), NaN where R is 0."""
        read = list[tuple[Reader, Tensor, int]]()
        with self.run(lambda *found: read.append(found)) as (total, _):
            gradients = torch.autograd.grad(total, [x for _, x, _ in read], allow_unused=True) if read else ()
        flows: dict[str, Tensor] = {}
        for (reader, x, axis), gradient in zip(read, gradients, strict=True):
            if gradient is not None:
                each = (x.detach() * gradient).movedim(axis, -1).flatten(0, -2).sum(0).cpu() / total.detach()
                for name in reader.groups:
                    flow = reader.per_unit(name, each)
                    flows[name] = flows[name] + flow if name in flows else flow
        return flows


@collector("weight_synflow")
class WeightSynFlow(_Flow):
    """Of each weight of two axes or more: `through`, of its shape, float64, |w| * dR/d|w| as a part of R."""

    def owners(self) -> Collection[str]:
        """Weights."""
        wanted = self.sampling.weights
        own = (n for n, p in self.graph.model.named_parameters() if _real(p) and p.dim() > 1)
        return [n for n in own if wanted is None or n in wanted]

    def values(self) -> dict[str, Fields]:
        """By weight; those through which a negative flow passes have none."""
        return {n: {"through": through.clamp_(min=0.0)} for n, through in self.passed().items()}

    def passing(self) -> dict[str, Tensor]:
        """Weight -> of its shape, NaN where R is 0. Each takes the place of a copy in float64, never beside it."""
        found: dict[str, Tensor] = {}
        with self.run(lambda *_: None) as (total, held):
            whole = total.detach()

            def take(name: str, weight: Tensor) -> None:
                gradient, weight.grad = weight.grad, None
                assert gradient is not None
                found[name] = gradient.mul_(weight.detach()).cpu().div_(whole)
                weight.data = weight.data.new_empty(0)  # all that multiplied with it has been gone through

            leaves = {n: held[n] for n in self.owners()}
            for name, leaf in leaves.items():
                leaf.register_post_accumulate_grad_hook(partial(take, name))
            if leaves and total.requires_grad:
                torch.autograd.backward(total, inputs=[*leaves.values()])
        return found


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
