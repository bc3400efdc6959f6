"""An independent judgement of a prune result: did it remove anything, and is what is left the model it should be?

    pruned   something is gone and every check below holds
    noop     nothing is gone
    wrong    something is gone and a check fails; `problems` says which

It runs the models itself, counts with torch's own counter, and measures the error anew, at a second batch size.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import secateur
from secateur.graph.example import call, map_tensors, tensors
from secateur.surgery.mask import masked_forward

TOLERANCE = 1e-6
STEP_TOLERANCE = 1e-3  # mamba scans in float32 whatever the model's type; a wrong step is off by about 1
CACHES = ("past_key_values", "cache_params")  # these grow narrower with their heads, as they should
Problems = list[str]
Reload = Callable[[Path], list[Tensor]]


@dataclass
class Judgement:
    """A verdict, its reasons, and what was counted on the way."""

    verdict: str = "pruned"
    problems: Problems = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    macs: tuple[int, int] = (0, 0)  # before and after, by torch's counter
    params: tuple[int, int] = (0, 0)
    second_error: float | None = None


def fingerprint(model: nn.Module) -> str:
    """A hash of all parameters and buffers, their names, shapes and types, and the mode of each module."""
    digest = hashlib.sha256()
    for name, t in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)):
        digest.update(f"{name} {tuple(t.shape)} {t.dtype} {t.requires_grad}".encode())
        digest.update(t.detach().contiguous().flatten().view(torch.uint8).numpy())
    digest.update(str([m.training for m in model.modules()]).encode())
    return digest.hexdigest()


def judge(dense: nn.Module, pruned: Any, example: Any, seconds: list[Any], *, before: str, reload: Reload) -> Judgement:
    """Hold a `Pruned` against the model it came from.

    `before`: the fingerprint of `dense` from before it was pruned. `seconds`: two inputs of another batch size.
    `reload`: a file that `secateur.save` wrote -> outputs on `example` of the model loaded from it.
    """
    found, small = Judgement(), pruned.model
    found.params = parameters(dense), parameters(small)
    found.macs = count(dense, example), count(small, example)
    if not (found.params[1] < found.params[0] or found.macs[1] < found.macs[0]):
        found.verdict = "noop"
        return found
    if not pruned.check.max_error <= TOLERANCE:
        found.problems.append(f"its own check says {pruned.check.max_error:.2g}")
    if found.macs != (pruned.before.macs, pruned.after.macs):
        found.notes.append(f"cost says {pruned.before.macs} -> {pruned.after.macs} MACs, counted are {found.macs}")
    with torch.no_grad():
        whole, left = outputs(dense, example), outputs(small, example)
    found.problems += same_shapes(whole, left)
    found.problems += second_batch(dense, pruned, seconds, found)
    found.problems += trains(dense, small, example, found)
    found.problems += ties_kept(dense, small)
    found.problems += reloads(pruned, left, reload)
    found.problems += continues(dense, small, example)
    if fingerprint(dense) != before:
        found.problems.append("the caller's model was changed")
    if found.problems:
        found.verdict = "wrong"
    return found


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    """The tensors that a call gives, in order, without caches."""
    result = call(model, example)
    if isinstance(result, dict):
        result = {k: v for k, v in result.items() if k not in CACHES}
    return tensors(result)


def parameters(model: nn.Module) -> int:
    """Numbers in parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def count(model: nn.Module, example: Any) -> int:
    """Multiply-accumulates of one forward by torch's own counter, which knows no fused attention of a CPU."""
    model = copy.deepcopy(model).requires_grad_(False)  # the counter fails on parameters that are handed to a module
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call(model, example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


def same_shapes(whole: list[Tensor], left: list[Tensor]) -> Problems:
    """The caller gets what he got before: as many outputs, of the same shapes and types, and finite."""
    shapes = [[(tuple(t.shape), t.dtype) for t in side] for side in (whole, left)]
    if shapes[0] != shapes[1]:
        return [f"outputs were {shapes[0][:4]} and are {shapes[1][:4]}"]
    return [] if all(torch.isfinite(t).all() for t in left if t.is_floating_point()) else ["an output is not finite"]


def double(tree: Any) -> Any:
    """Floating tensors in float64."""
    return map_tensors(tree, lambda t: t.double() if t.is_floating_point() else t)


def second_batch(dense: nn.Module, pruned: Any, seconds: list[Any], found: Judgement) -> Problems:
    """At another batch size the cut model gives what the masked model gives, in float64."""
    try:
        outputs(dense, seconds[0])
    except Exception as error:  # whatever a user's forward raises where it is written for one batch size
        found.notes.append(f"the dense model does not take the second batch size ({error})")
        return []
    try:
        found.second_error = masked_error(dense, pruned, seconds)
    except Exception as error:  # a cut model may raise anything
        return [f"at the second batch size: {type(error).__name__}: {error}"]
    return [] if found.second_error <= TOLERANCE else [f"error {found.second_error:.2g} at the second batch size"]


@torch.no_grad()
def masked_error(dense: nn.Module, pruned: Any, inputs: list[Any]) -> float:
    """max |masked(x) - cut(x)| / max |masked(x) - masked(x')|, the largest over the outputs, in float64."""
    graph = secateur.trace(dense, inputs[0])
    alive = torch.from_numpy(graph.alive(pruned.plan.kept))
    original, small = copy.deepcopy(dense).double(), copy.deepcopy(pruned.model).double()
    masked = [_plain(masked_forward(original, graph.trace, double(x), alive)) for x in inputs]
    worst = 0.0
    for a, b, got in zip(*masked, outputs(small, double(inputs[0])), strict=True):
        difference = (a.double() - got.double()).abs().max().item()
        moved = min((a.double() - b.double()).abs().max().item(), a.double().abs().max().item())
        error = difference / moved if moved else float(difference > 0)
        worst = worst if error <= worst else error  # NaN stays
    return worst


def _plain(result: Any) -> list[Tensor]:
    return tensors({k: v for k, v in result.items() if k not in CACHES} if isinstance(result, dict) else result)


def trains(dense: nn.Module, small: nn.Module, example: Any, found: Judgement) -> Problems:
    """Each parameter that had a gradient before has one of its own shape now, and it is finite."""
    try:
        wanted = gradients(dense, example)
    except RuntimeError as error:
        found.notes.append(f"the dense model has no gradients ({error})")
        return []
    try:
        got, held = gradients(small, example), dict(small.named_parameters())
    except RuntimeError as error:
        return [f"backward fails: {error}"]
    bad = {
        "no gradient reaches": [n for n, g in wanted.items() if g is not None and got.get(n) is None],
        "of another shape is the gradient of": [
            n for n, g in got.items() if g is not None and g.shape != held[n].shape
        ],
        "not finite is the gradient of": [n for n, g in got.items() if g is not None and not torch.isfinite(g).all()],
    }
    return [f"{what} {names[0]} ({len(names)} in all)" for what, names in bad.items() if names]


def gradients(model: nn.Module, example: Any) -> dict[str, Tensor | None]:
    """Name -> gradient of a loss in which no output counts the same as another; `.grad` is left alone."""
    held = {n: p for n, p in model.named_parameters() if p.requires_grad}
    terms = []
    for t in outputs(model, example):
        if t.is_floating_point() and t.requires_grad:
            weights = torch.linspace(-1, 2, t.numel(), dtype=t.dtype).reshape(t.shape)
            terms.append((weights * t).tanh().sum())
    found = torch.autograd.grad(torch.stack(terms).sum(), list(held.values()), allow_unused=True)
    return dict(zip(held, found, strict=True))


def ties_kept(dense: nn.Module, small: nn.Module) -> Problems:
    """Parameters that were one are one, and no others."""
    before, after = ties(dense), ties(small)
    return [] if before == after else [f"shared parameters were {sorted(before)} and are {sorted(after)}"]


def ties(model: nn.Module) -> set[tuple[str, ...]]:
    """Names that stand for one parameter, together."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {tuple(sorted(shared)) for shared in names.values() if len(shared) > 1}


def reloads(pruned: Any, left: list[Tensor], reload: Reload) -> Problems:
    """Saved and loaded into a fresh model, it gives the same outputs bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pruned.safetensors"
        try:
            secateur.save(pruned, path)
            again = reload(path)
        except Exception as error:  # a file that cannot be loaded is a finding, whatever it raises
            return [f"save and load: {type(error).__name__}: {error}"]
    same = len(left) == len(again) and all(torch.equal(a, b) for a, b in zip(left, again, strict=True))
    return [] if same else ["the reloaded model gives others"]


def loaded_here(fresh: Callable[[], nn.Module], example: Any) -> Reload:
    """Load into a fresh model in this process."""

    @torch.no_grad()
    def reload(path: Path) -> list[Tensor]:
        model = fresh()
        outputs(model, example)  # what was pruned had run once: convit sizes a buffer by its first input
        return outputs(secateur.load(path, into=model).eval(), example)

    return reload


def continues(dense: nn.Module, small: nn.Module, example: Any) -> Problems:
    """Where the example asks for a cache: one more token through the cache gives what all tokens at once give."""
    if not (isinstance(example, dict) and example.get("use_cache")):
        return []
    if not step_error(dense, example) <= STEP_TOLERANCE:
        return ["the dense model's own cache does not continue it"]
    try:
        error = step_error(small, example)
    except Exception as raised:  # a cut model may raise anything
        return [f"with its cache: {type(raised).__name__}: {raised}"]
    return [] if error <= STEP_TOLERANCE else [f"continued from its cache it is off by {error:.2g}"]


@torch.no_grad()
def step_error(model: nn.Module, example: dict[str, Any]) -> float:
    """Largest difference of the last token's logits, relative to the largest of them."""
    fed = "decoder_input_ids" if "decoder_input_ids" in example else "input_ids"
    model, tokens = copy.deepcopy(model).double(), example[fed]
    at_once = call(model, example | {"use_cache": False}).logits[:, -1]
    first = call(model, example | {fed: tokens[:, :-1]})
    cache = {k: first[k] for k in CACHES if k in first}
    last = call(model, example | {fed: tokens[:, -1:]} | cache).logits[:, -1]
    return ((last - at_once).abs().max() / at_once.abs().max()).item()
