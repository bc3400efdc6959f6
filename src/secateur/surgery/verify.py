"""Verify: the cut model must give what the masked original gives, in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import VerificationError
from ..graph.example import call, map_tensors, results
from ..graph.record import Contraction
from ..graph.trace import undisturbed
from ..groups.graph import Graph
from ..groups.plan import Plan
from .cut import apply, edits
from .fold import apply_shifts, shifts
from .mask import along, masked_forward

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """The outcome of a verification."""

    max_error: float  # max |masked - cut| / (max |masked(x) - masked(x')|, or max |masked(x)| if that is smaller)
    tolerance: float
    reference: str  # what the cut model was held against


def double(tree: Any) -> Any:
    """Floating tensors in float64, others as they are."""
    return map_tensors(tree, lambda t: t.detach().double() if t.is_floating_point() else t.detach())


def other_example(example: Any, seed: int = 0) -> Any:
    """An input of the same shapes: floating tensors anew, from their own mean and spread; whole numbers shuffled."""
    generator = torch.Generator().manual_seed(seed)

    def anew(t: Tensor) -> Tensor:
        if not t.is_floating_point():
            return t.flatten()[torch.randperm(t.numel(), generator=generator)].reshape(t.shape)
        noise = torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device)
        return noise * (t.double().std(correction=0) + 1.0) + t.double().mean()

    return map_tensors(example, anew)


@torch.no_grad()
def verify(graph: Graph, plan: Plan, cut: nn.Module, *, tolerance: float = TOLERANCE) -> Check:
    """Run the masked original and the cut model in float64 on two inputs; raise `VerificationError` if they differ.

    The error is relative to how much the masked output moves between the two inputs, so that a large constant in the
    output cannot hide a difference. Neither model is touched.
    """
    original, small = (copy.deepcopy(m).double() for m in (graph.model, cut))
    inputs = [double(graph.example), other_example(graph.example)]
    alive = torch.from_numpy(graph.alive(plan.kept))
    shift = shifts(graph, original, plan)
    _refine(graph, plan, original, cut, small, shift)

    def after(contraction: Contraction, y: Tensor) -> Tensor:
        if contraction.weight not in shift:
            return y
        return y + along(y, 1, shift[contraction.weight])

    masked = [results(masked_forward(original, graph.trace, x, alive, after)) for x in inputs]
    try:
        with undisturbed(small):
            got = [results(call(small, x)) for x in inputs]
    except Exception as raised:  # whatever the user's forward raises on a wrong cut
        raise VerificationError(f"the cut model does not run ({raised}); nothing was changed") from raised
    error = _relative(masked, got)
    reference = "the original with removed units masked" + (", their constants folded" if shift else "")
    if not error <= tolerance:
        raise VerificationError(
            f"the cut model differs from {reference}: relative error {error:.3g} > {tolerance:g}; nothing was changed"
        )
    return Check(error, tolerance, reference)


def _refine(
    graph: Graph, plan: Plan, original: nn.Module, cut: nn.Module, small: nn.Module, shift: dict[str, Tensor]
) -> None:
    """Folded constants were rounded to the model's dtype: hold them to that rounding, and go on in float64."""
    if not shift:
        return
    exact = copy.deepcopy(original)
    apply(exact, edits(graph, plan))
    held, wanted, fine = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (cut, exact, small))
    for name in apply_shifts(graph, exact, shift, graph.alive(plan.kept)):
        if not torch.equal(wanted[name].to(held[name].dtype), held[name]):
            raise VerificationError(f"{name} does not hold the constants folded into it; nothing was changed")
        fine[name].copy_(wanted[name])


def _relative(masked: list[list[Tensor]], got: list[list[Tensor]]) -> float:
    """The largest difference over all outputs, relative to how far each output moves between inputs."""
    worst = 0.0
    for a, b, cut_a, cut_b in zip(*masked, *got, strict=True):
        if a.shape != cut_a.shape or b.shape != cut_b.shape:
            return float("inf")
        if not a.is_floating_point():
            worst = worst if torch.equal(a, cut_a) and torch.equal(b, cut_b) else float("inf")
        elif a.numel():
            error = _error(a, b, cut_a, cut_b)
            worst = error if np.isnan(error) else max(worst, error)
    return worst


def _error(a: Tensor, b: Tensor, cut_a: Tensor, cut_b: Tensor) -> float:
    sizes = [t.abs().max().item() for t in (a, b)]
    size, moved = max(sizes), (a - b).abs().max().item()
    difference = max((a - cut_a).abs().max().item(), (b - cut_b).abs().max().item())
    if difference == 0:
        return 0.0
    # An output that hardly moves is not held to less than float64 can resolve.
    return difference / max(min(moved, size), 1e-6 * size, np.finfo(np.float64).tiny)
