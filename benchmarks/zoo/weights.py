"""Weights that hide nothing: no zero branch, no two channels alike, batch-norm statistics of real activations.

A freshly built network has zero-initialised last norms, LayerScale at 1e-6, norms of ones and attention that is all
but uniform: a wrong index in such a branch changes next to nothing, so no check could see it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.example import call

TINY = 1e-3  # a tensor below it was initialised to be nothing at first (LayerScale, gMLP's gate)
Norm = nn.modules.batchnorm._NormBase


@torch.no_grad()
def enliven(model: nn.Module, batch: Any, seed: int = 0) -> nn.Module:
    """Change the weights in place, the same for the same seed; the mode and the RNG are left as they were.

    `batch`: an input of several samples; batch norms take their statistics from one forward on it, in eval mode. Other
    buffers are constants of the model (indices, masks, frequencies) and stay.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, Norm) and isinstance(m.running_mean, Tensor)]
    statistics = [(f"{number}.bias", m.running_mean) for number, m in enumerate(norms)]  # a mean is a shift
    statistics += [(f"{number}.weight", m.running_var) for number, m in enumerate(norms)]
    for name, tensor in (*model.named_parameters(), *statistics):
        if is_flat(tensor):
            tensor.copy_(lively(name, tensor, generator))
        else:
            tensor.mul_(lift(tensor))
    if norms:
        calibrate(model, norms, batch, generator)
    return model


def is_flat(tensor: Tensor) -> bool:
    """Whether all entries are equal or all but nothing; of a single number, whether it is all but nothing."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return False
    if tensor.detach().abs().max().item() < TINY:
        return True
    return tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())


def lively(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Values for a flat tensor: about its constant, each another; those of a zero depend on what it is for."""
    constant = tensor.flatten()[0].item()
    if abs(constant) >= TINY:
        return constant * (0.5 + torch.rand(tensor.shape, generator=generator))
    if name.endswith("bias"):
        return 0.2 * torch.randn(tensor.shape, generator=generator)
    if spread := wanted(tensor):
        return spread * torch.randn(tensor.shape, generator=generator)
    return 0.5 + torch.rand(tensor.shape, generator=generator)  # the scale of a norm or of a branch


def wanted(tensor: Tensor) -> float:
    """The standard deviation at which a matrix or kernel keeps the size of what it reads; 0 for other tensors.

    Three axes are taken for a stack of matrices (experts) or a depthwise kernel: both read along the last axis.
    """
    if tensor.dim() < 2 or len(tensor) == 1:
        return 0.0
    fan = tensor.shape[-1] if tensor.dim() == 3 else tensor[0].numel()
    return fan**-0.5


def lift(tensor: Tensor) -> float:
    """What to multiply a weight with that is smaller than `wanted`, as transformers start out; else 1."""
    return max(1.0, wanted(tensor) / tensor.std().item()) if wanted(tensor) else 1.0


def calibrate(model: nn.Module, norms: list[Any], batch: Any, generator: torch.Generator) -> None:
    """Each batch norm takes, when it is first reached, the statistics of what arrives, with noise; then it runs.

    So a norm's noise is in what the next one sees, and the model is consistent however deep. A channel that is dead on
    the batch gets a tenth of the layer's variance: else it would be blown up where another input revives it.
    """

    def measure(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        if norm in waiting:
            waiting.remove(norm)
            x = inputs[0].transpose(0, 1).flatten(1)
            variance = x.var(1, correction=0)
            variance.clamp_(min=variance.mean().item() / 10 + TINY)
            noise = torch.randn(2, len(x), generator=generator)
            norm.running_mean.copy_(x.mean(1) + 0.2 * variance.sqrt() * noise[0])
            norm.running_var.copy_(variance * torch.exp(0.3 * noise[1]))

    waiting = set(norms)
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
