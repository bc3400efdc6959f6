"""A model for inference on this CPU, in which compressed rows stand where they were measured to be faster, only there.

Each linear layer is timed as it is called: whole forwards, on the inputs that the example gives it, dense and by each
kernel in turn. A kernel replaces the dense layer where it was faster in three of four samples; zeros that buy nothing
stay in a dense layer, and the report says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..engines.compiled import torch_threads
from ..errors import BadModel, BadOption, SecateurWarning, VerificationError
from ..graph.example import Example, call, tensors
from ..surgery.checkpoint import Saveable
from .compressed import DTYPES, KERNELS, CompressedLinear
from .measure import samples
from .sparsify import copy_of

WON = 0.75  # of the samples in which a kernel must be faster
TOLERANCE = 1e-4  # of the largest output, for sums in another order


@dataclass(frozen=True)
class Layer:
    """What was measured of one layer: milliseconds of all its calls in one forward on the example, medians."""

    sparsity: float
    batch: int  # rows that its calls multiply with
    dense_ms: float
    sparse_ms: Mapping[str, float]  # by kernel
    won: Mapping[str, float]  # by kernel: the part of samples in which it was faster than dense
    chosen: str  # a kernel, or "dense"

    def __str__(self) -> str:
        kernels = ", ".join(f"{k} {ms:.4g} ms (faster in {self.won[k]:.0%})" for k, ms in self.sparse_ms.items())
        gain = self.dense_ms / self.sparse_ms[self.chosen] if self.chosen != "dense" else 1.0
        told = f"{self.chosen}, {gain:.2f} times as fast" if self.chosen != "dense" else "stays dense"
        return f"{self.sparsity:.4g} zero, {self.batch} rows: dense {self.dense_ms:.4g} ms, {kernels}: {told}"


@dataclass(frozen=True, eq=False)
class Inference:
    """A copy of the model, in eval mode and without gradients; what was measured of layers, and why of others not."""

    model: nn.Module = field(repr=False)
    layers: dict[str, Layer]
    left: dict[str, str]
    threads: int
    error: float  # largest difference from the dense outputs on the example, relative to the largest of them

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names of the layers that multiply with compressed rows."""
        return tuple(name for name, layer in self.layers.items() if layer.chosen != "dense")

    def __str__(self) -> str:
        many = len(self.layers) + len(self.left)
        head = f"{len(self.replaced)} of {many} linear layers as compressed rows, {self.threads} threads"
        measured = [f"  {name}: {layer}" for name, layer in self.layers.items()]
        return "\n".join([head, *measured, *(f"  {name}: not measured, {why}" for name, why in self.left.items())])


def inference(
    sparse: nn.Module | Saveable, example: Example, *, threads: int = 1, repeats: int = 21, verify: bool = True
) -> Inference:
    """A copy in which those `nn.Linear` layers are compressed rows that are faster so, measured on the example's batch.

    `sparse`: a model with zeros, a `Sparse` or a `Pruned`; it is left as it is. `threads` of torch while measuring
    (scipy's kernel takes one whatever is given); what wins with one number need not win with another. `verify` runs
    both models on the example. Where nothing wins, the copy is the dense model, and a `SecateurWarning` says so. Layers
    that share their weight, have hooks, or are not called stay dense. Neither torch.compile nor exporters see through
    scipy.
    Raises `BadOption`, `BadModel` where the model cannot be copied or is not on the CPU, `VerificationError`.
    """
    for name, value in {"threads": threads, "repeats": repeats}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadOption(f"{name}={value!r}: give a whole number from 1")
    model = copy_of(sparse if isinstance(sparse, nn.Module) else sparse.model)
    model.eval().requires_grad_(False)
    if any(p.device.type != "cpu" for p in model.parameters()):
        raise BadModel("the model is not on the CPU, where compressed rows are measured; give model.cpu()")
    with torch.no_grad(), torch_threads(threads):
        inputs, dense = _inputs(model, example)
        left = {name: why for name, module in _linears(model) if (why := _why_left(model, name, module, inputs))}
        wanted = {name: module for name, module in _linears(model) if name not in left}
        found = {name: _timed(name, module, inputs[name], repeats) for name, module in wanted.items()}
        for name, (_, winner) in found.items():
            if winner is not None:
                model = _with(model, name, winner)
        error = _error(dense, tensors(call(model, example))) if verify else 0.0
    layers = {name: layer for name, (layer, _) in found.items()}
    if not error <= TOLERANCE:
        raise VerificationError(f"outputs differ by {error:.2g} of the largest; give verify=False where that is meant")
    done = Inference(model, layers, left, threads, error)
    if not done.replaced:
        best = max((layer.sparsity for layer in layers.values()), default=0.0)
        warnings.warn(
            f"no linear layer is faster as compressed rows here ({len(layers)} measured, at most {best:.4g} zero): the "
            "model is the dense one; print what was returned for the times",
            SecateurWarning,
            stacklevel=2,
        )
    return done


def restore(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the dense model with the weights and compressed rows of an `Inference.model.state_dict()`.

    Raises `CheckpointError` for rows that are none, and what `load_state_dict` raises.
    """
    made = copy_of(model).eval().requires_grad_(False)
    for name, _ in list(_linears(made)):
        prefix = f"{name}." if name else ""
        if f"{prefix}starts" in state:
            own = {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}
            made = _with(made, name, CompressedLinear.like(own, name))
    made.load_state_dict(dict(state))
    return made


def _with(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """The model with another module of that name; no name is the model itself."""
    if not name:
        return module
    model.set_submodule(name, module)
    return model


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Plain linear layers; what derives from them may multiply with anything."""
    for name, module in model.named_modules():
        if type(module) is nn.Linear:
            yield name, module


def _inputs(model: nn.Module, example: Example) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """By layer, what each of its calls is given, in one forward; and what the forward gives."""
    found: dict[str, list[Tensor]] = {}

    def note(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        if args:
            found.setdefault(name, []).append(args[0].detach().clone())

    hooks = [m.register_forward_pre_hook(partial(note, n)) for n, m in _linears(model) if not _hooked(m)]
    try:
        return found, tensors(call(model, example))
    finally:
        for hook in hooks:
            hook.remove()


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _why_left(model: nn.Module, name: str, module: nn.Linear, inputs: Mapping[str, list[Tensor]]) -> str:
    """Why a layer is not measured; nothing if it is."""
    holders = sum(p is module.weight for _, p in model.named_parameters(remove_duplicate=False))
    reasons = {
        "it has hooks": _hooked(module),
        "its weight is shared": holders > 1,
        "the example does not reach it": name not in inputs,
        f"it holds {module.weight.dtype}": module.weight.dtype not in DTYPES,
        "it has no zeros": bool((module.weight != 0).all()),
    }
    return next((why for why, is_so in reasons.items() if is_so), "")


def _timed(name: str, module: nn.Linear, inputs: list[Tensor], repeats: int) -> tuple[Layer, CompressedLinear | None]:
    """What was measured, and the layer that wins over the dense one, if one does."""
    made: dict[str, CompressedLinear] = {
        k: CompressedLinear(module.weight, module.bias, kernel=k, path=name) for k in KERNELS
    }
    taken = samples([partial(_each, m, inputs) for m in (module, *made.values())], repeats)
    won = {k: float((taken[:, i] < taken[:, 0]).mean()) for i, k in enumerate(made, start=1)}
    medians: NDArray[np.float64] = np.median(taken, axis=0) * 1e3
    times = dict(zip(made, medians[1:].tolist(), strict=True))
    best = min((k for k in made if won[k] >= WON and times[k] < medians[0]), key=times.__getitem__, default=None)
    layer = Layer(
        sparsity=float((module.weight == 0).double().mean()),
        batch=sum(x.numel() // x.shape[-1] for x in inputs),
        dense_ms=float(medians[0]),
        sparse_ms=times,
        won=won,
        chosen=best or "dense",
    )
    return layer, made[best] if best else None


def _each(module: nn.Module, inputs: list[Tensor]) -> None:
    for x in inputs:
        module(x)


def _error(dense: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference relative to the largest value, over all outputs of floating type."""
    pairs = [(a.double(), b.double()) for a, b in zip(dense, found, strict=True) if a.is_floating_point()]
    return max((float((a - b).abs().max() / a.abs().max().clamp_min(1e-30)) for a, b in pairs), default=0.0)
