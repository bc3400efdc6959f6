"""Verify: the cut model must give what the masked original gives, in float64."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import VerificationError
from ..graph.example import call, map_tensors, results, tensors
from ..graph.record import Contraction, Trace
from ..graph.trace import read, undisturbed
from ..groups.graph import Graph
from ..groups.plan import Plan
from .cut import apply, edits
from .fold import apply_shifts, shifts
from .mask import along, masked_forward
from .merge import merged
from .precise import InFloat64, wider

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """The outcome of a verification."""

    max_error: float  # max |masked - cut| / (max |masked(x) - masked(x')|, or max |masked(x)| if that is smaller)
    tolerance: float
    reference: str  # what the cut model was held against


def unverified(graph: Graph, plan: Plan, cut: nn.Module, *, tolerance: float = TOLERANCE) -> Check:
    """The check that was not made."""
    return Check(float("nan"), tolerance, "nothing: verification was off")


def masked_original(plan: Plan) -> str:
    """What a cut model is held against, in words."""
    return "the original with removed units" + (" merged into others and" if plan.merges else "") + " masked"


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

    Where the original takes it, the second input is an image of half the size, or a sequence of half the length; the
    cut model also sees another batch size than the example's. The error is relative to how much the masked output
    moves between two inputs, so that a large constant in the output cannot hide a difference. Neither model is touched.
    """
    shift = shifts(graph, graph.model, plan)
    graph = merged(graph, plan)
    original, small = _refined(graph, plan, cut, shift) if shift else (graph.model, cut)
    whole = _Size(graph.trace, torch.from_numpy(graph.alive(plan.kept)), graph.example, original, shift)
    other = _resized(graph, plan, original, shift)
    if other is not None and _shapes(other.masked(1)) == _shapes(whole.masked(0)):  # so that they can be compared
        twice = _both(small, [other.inputs[1]] * 2, [other.masked(1)] * 2)
        error = _relative([whole.masked(0), other.masked(1)], [_run(small, whole.inputs[0]), twice[0]])
    else:
        error = max((size.error(small) for size in (whole, other) if size is not None), key=_badness)
    reference = masked_original(plan) + (", their constants folded" if shift else "")
    if not error <= tolerance:
        raise VerificationError(
            f"the cut model differs from {reference}: relative error {error:.3g} > {tolerance:g}; nothing was changed"
        )
    return Check(error, tolerance, reference)


def _badness(error: float) -> float:
    """NaN is worse than any number."""
    return float("inf") if np.isnan(error) else error


def _shapes(outputs: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(t.shape) for t in outputs]


class _Size:
    """The masked original at one size of input, on two inputs, each run when it is asked for and once."""

    def __init__(
        self, trace: Trace, alive: Tensor, example: Any, original: nn.Module, shift: dict[str, Tensor]
    ) -> None:
        self.inputs = [double(example), other_example(example)]
        self._how = (original, trace, alive, shift)
        self._held: dict[int, list[Tensor]] = {}

    def masked(self, i: int) -> list[Tensor]:
        """Outputs for the i-th input."""
        if i not in self._held:
            original, trace, alive, shift = self._how
            self._held[i] = _masked(original, trace, self.inputs[i], alive, shift)
        return self._held[i]

    def error(self, small: nn.Module) -> float:
        """Of the cut model, on both inputs."""
        masked = [self.masked(0), self.masked(1)]
        return _relative(masked, _both(small, self.inputs, masked))


def _masked(model: nn.Module, trace: Trace, x: Any, alive: Tensor, shift: dict[str, Tensor]) -> list[Tensor]:
    def after(contraction: Contraction, y: Tensor) -> Tensor:
        if contraction.weight not in shift:
            return y
        return y + along(y, 1, shift[contraction.weight])

    with InFloat64(model):
        return wider(results(masked_forward(model, trace, x, alive, after)))


def _run(model: nn.Module, x: Any) -> list[Tensor]:
    try:
        with undisturbed(model), InFloat64(model):
            return wider(results(call(model, x)))
    except Exception as raised:  # whatever the user's forward raises on a wrong cut
        raise VerificationError(f"the cut model does not run ({raised}); nothing was changed") from raised


def _both(model: nn.Module, inputs: list[Any], masked: list[list[Tensor]]) -> list[list[Tensor]]:
    """The cut model's outputs on both inputs: on one batch of both where images or sequences do not know each other."""
    held = [tensors(x) for x in inputs]
    count = held[0][0].shape[0] if held[0][0].dim() else 0
    outputs = [t for m in masked for t in m]
    if all(t.dim() and t.shape[0] == count for t in (*held[0], *outputs)):
        pairs = iter([torch.cat(pair) for pair in zip(*held, strict=True)])
        joined = map_tensors(inputs[0], lambda _: next(pairs))
        try:
            together = _run(model, joined)
        except VerificationError:
            together = []
        if [tuple(t.shape) for t in together] == [(2 * count, *t.shape[1:]) for t in masked[0]]:
            apart = [[t[:count] for t in together], [t[count:] for t in together]]
            if _relative(masked, apart) <= TOLERANCE:
                return apart
    return [_run(model, x) for x in inputs]


def _resized(graph: Graph, plan: Plan, original: nn.Module, shift: dict[str, Tensor]) -> _Size | None:
    """Another length or spatial size; None where the original takes no other, or acts otherwise there."""
    example = _smaller(graph.example)
    if example is None:
        return None
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    try:
        log.setLevel(logging.CRITICAL)  # that this size may not fit is no news
        trace = read(original, example, experts=graph.trace.experts)
        alive = _carried(graph, trace, plan)
        size = None if alive is None else _Size(trace, alive, example, original, shift)
        if size is not None:
            size.masked(1)
    except Exception:  # the model's own refusal of this size, whatever it is: nothing can be compared
        return None
    finally:
        log.setLevel(level)
    return size


def _carried(graph: Graph, trace: Trace, plan: Plan) -> Tensor | None:
    """(labels of `trace`,) alive as in the plan; None if other indices hang together in this trace."""
    held = max((int(a.max()) for axes in trace.tensors.values() for a in axes if a.size), default=0) + 1
    alive = graph.alive(plan.kept)[:held]  # parameters come first, in the same order
    classes = np.ones(int(trace.classes.max()) + 1, dtype=bool)
    classes[trace.classes[:held][~alive]] = False
    for mine, theirs in zip(graph.trace.residuals, trace.residuals, strict=True):
        if not graph.alive(plan.kept)[mine.axis].all():
            classes[trace.classes[theirs.axis]] = False
    carried = classes[trace.classes]
    return torch.from_numpy(carried) if np.array_equal(carried[:held], alive) else None


def _smaller(example: Any) -> Any:
    """The example with images of half the size, or sequences of half the length; None if there is nothing to halve."""
    sizes = {t.shape[1] if t.dim() < 4 else 0 for t in tensors(example) if t.dim() > 1}

    def halved(t: Tensor) -> Tensor:
        if t.dim() >= 4:
            for d in range(2, t.dim()):
                t = t.narrow(d, 0, max(t.shape[d] // 2, 1))
        elif t.dim() >= 2 and len(sizes) == 1 and not t.is_floating_point():
            t = t[:, : max(t.shape[1] // 2, 1)]
        return t

    made = map_tensors(example, halved)
    same = all(a.shape == b.shape for a, b in zip(tensors(made), tensors(example), strict=True))
    return None if same else made


def _refined(graph: Graph, plan: Plan, cut: nn.Module, shift: dict[str, Tensor]) -> tuple[nn.Module, nn.Module]:
    """Float64 copies of original and cut: folded constants are held to their rounding, and go on in float64."""
    original, small, exact = (copy.deepcopy(m).double() for m in (graph.model, cut, graph.model))
    apply(exact, edits(graph, plan))
    held, wanted, fine = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (cut, exact, small))
    for name in apply_shifts(graph, exact, shift, graph.alive(plan.kept)):
        if not torch.equal(wanted[name].to(held[name].dtype), held[name]):
            raise VerificationError(f"{name} does not hold the constants folded into it; nothing was changed")
        fine[name].copy_(wanted[name])
    return original, small


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
