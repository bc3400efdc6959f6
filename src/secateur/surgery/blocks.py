"""Verify block by block: the masked original runs once, and each block of the cut model is held to it alone.

For models that cost too much to run whole four times; what stands between the blocks is not checked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import VerificationError
from ..graph.example import Place, map_places, map_tensors, results
from ..graph.trace import block_paths, undisturbed
from ..groups.graph import Graph
from ..groups.plan import Plan
from .mask import masked_forward, renumbered, select
from .merge import merged
from .precise import InFloat64, wider
from .verify import TOLERANCE, Check, double, masked_original

Seen = tuple[Any, Any, list[Tensor]]


@torch.no_grad()
def verify_blocks(graph: Graph, plan: Plan, cut: nn.Module, *, tolerance: float = TOLERANCE) -> Check:
    """Raise `VerificationError` if a block differs from the masked original's on what arrives there, in float64.

    The error is relative to the largest output of the block.
    """
    if plan.folds:
        raise VerificationError("folded constants cannot be checked block by block; use verify='full'")
    graph = merged(graph, plan)
    alive = torch.from_numpy(graph.alive(plan.kept))
    seen = _watched(graph, alive)
    small = dict(cut.named_modules())
    worst = 0.0
    for block, (args, kwargs, outputs) in zip(graph.trace.blocks, seen, strict=True):
        error = _error(small[block.path], (args, kwargs), outputs)
        if not error <= tolerance:
            raise VerificationError(
                f"block {block.path!r} of the cut model differs from {masked_original(plan)}: relative "
                f"error {error:.3g} > {tolerance:g}; nothing was changed"
            )
        worst = max(worst, error)
    return Check(worst, tolerance, f"{masked_original(plan)}, {len(seen)} blocks one by one")


def _watched(graph: Graph, alive: Tensor) -> list[Seen]:
    """What each call of a block takes and gives in the masked original, of what is kept."""
    seen: list[Seen] = []
    given: list[tuple[Any, Any]] = []
    modules, paths = dict(graph.model.named_modules()), sorted(block_paths(graph.model))

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        # Copies, for a forward may go on to write into what a block was given.
        given.append((map_tensors(args, Tensor.clone), map_tensors(kwargs, Tensor.clone)))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        block = graph.trace.blocks[len(seen)]

        def as_cut(place: Place, t: Tensor) -> Tensor:
            return renumbered(select(t, block.inputs.get(place, ()), alive), block.numbers.get(place), alive)

        outputs = zip(results(output), block.outputs, block.numbered, strict=True)
        kept = [renumbered(select(t.clone(), own, alive), axis, alive) for t, own, axis in outputs]
        seen.append((*map_places(given.pop(), as_cut), kept))

    hooks = [modules[path].register_forward_pre_hook(enter, with_kwargs=True) for path in paths]
    hooks += [modules[path].register_forward_hook(leave) for path in paths]
    try:
        with InFloat64(graph.model):
            masked_forward(graph.model, graph.trace, double(graph.example), alive)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _error(module: nn.Module, given: Any, wanted: list[Tensor]) -> float:
    args, kwargs = given
    with undisturbed(module), InFloat64(module):
        found = wider(results(module(*args, **kwargs)))
    worst = 0.0
    for kept, made in zip(wider(wanted), found, strict=True):
        if kept.shape != made.shape:
            return float("inf")
        if kept.numel():
            difference = (kept - made).abs().max().item() if kept.is_floating_point() else float(not kept.equal(made))
            ratio = difference / max(kept.abs().max().item(), torch.finfo(torch.float64).tiny)
            worst = worst if ratio <= worst else ratio  # NaN is worse than any number
    return worst
