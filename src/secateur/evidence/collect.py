"""One pass over the data for everything that was asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import BadOption, NeedsData, UnknownName
from ..graph.example import as_call, map_tensors, results, tensors
from ..graph.trace import undisturbed
from ..groups.graph import Graph
from .base import COLLECTORS, Batches, Collector, Evidence, Loss, Sampling, from_data, pairs
from .readers import Known, Layout, Read, Reader, at_readers, layout, layouts, readers


def collect(
    graph: Graph,
    needs: Collection[str],
    *,
    batches: Batches | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
) -> Evidence:
    """One pass over `batches` of (inputs, targets), in eval mode, for every kind of evidence in `needs`.

    `loss(output, target)` is a scalar, cross entropy by default; without a need for gradients it is never called and
    targets are not looked at. The model is not touched: no `.grad` is written. Raises `NeedsData` when data is needed
    and none is given, when the batches are empty, a loss is not finite or without gradient; `BadOption` for a loss that
    is no scalar tensor, `BadExample` for a batch that is no pair; `UnknownName`.
    """
    evidence = Evidence(graph.model, seed=seed)
    kinds = COLLECTORS.all()
    wanted = sorted(set(needs) - {"weights"})
    for name in wanted:
        if name not in kinds:
            raise UnknownName("kind of evidence", name, kinds)
    lacking = from_data(wanted)
    if lacking and batches is None:
        raise NeedsData(
            f"{' and '.join(lacking)} must be collected: give batches=[(inputs, targets), ...], and loss= if not cross "
            "entropy"
        )
    collectors = [kinds[name](graph, sampling or Sampling(seed=seed)) for name in wanted]
    if lacking:
        _pass(graph, [c for c in collectors if c.data], batches or (), loss or nn.functional.cross_entropy)
    evidence.values = {c.name: c.values() for c in collectors}
    evidence.missing = {c.name: c.missing for c in collectors if c.missing}
    return evidence


def _pass(graph: Graph, collectors: list[Collector], batches: Batches, loss: Loss) -> None:
    model = graph.model
    differentiate = any(c.differentiates for c in collectors)
    gates = {n: z for c in collectors for n, z in c.gates().items()}
    kept = {n for c in collectors if c.differentiates for n in c.parameters()} | set(gates)
    turns = _turns(collectors)
    if differentiate and not kept | set(turns):  # nothing wanted has a gradient; those who wanted it say why
        kept = {n for n, p in model.named_parameters() if p.is_floating_point()}
    held = {n: p.detach().requires_grad_(n in kept or n in turns) for n, p in model.named_parameters()}
    watch = _Watch(graph, collectors, held)
    seen = 0
    with undisturbed(model), torch.set_grad_enabled(differentiate):
        for number, (inputs, target) in enumerate(pairs(batches)):
            with watch.batch(number, inputs):
                output = torch.func.functional_call(model, held, *as_call(inputs))
            found: dict[str, Tensor | None] = {}
            if differentiate:
                twice = any(c.twice for c in collectors)
                found = _gradients(_checked(loss(output, target), number), held | gates, kept, turns, twice)
            if any(bool(torch.isnan(t).any()) for t in results(output) if t.is_floating_point()):
                raise NeedsData(f"batch {number} gives an output of NaN; scores from it would mean nothing")
            del output
            for c in collectors:
                c.batch(found, held | gates)
            del found  # and the graph that it may hold
            watch.forget()
            seen += 1
    if not seen:
        raise NeedsData("the batches are empty; give at least one (inputs, targets)")


class _Watch:
    """Hands what layers read to those who want it."""

    def __init__(self, graph: Graph, collectors: list[Collector], held: dict[str, Tensor]) -> None:
        self._interested = [c for c in collectors if c.reads]
        self._graph, self._collectors, self._held = graph, collectors, held
        self._readers = readers(graph) if self._interested else {}
        self._layouts: dict[int, Layout | str] = {}
        self._hooks: list[RemovableHandle] = []

    @contextmanager
    def batch(self, number: int, inputs: Any) -> Iterator[None]:
        """Around the forward of a batch."""
        examples = count_examples(inputs)
        for c in self._collectors:
            c.examples = examples
        known: dict[int, Known] = {}
        if self._interested and examples > 1 and not self._layouts:
            known = self._again(inputs, examples)
        numbers: Any = WeakTensorKeyDictionary()

        def see(reader: Reader, x: Tensor, axis: int) -> None:
            def gradient(f: Any) -> None:
                def once(g: Tensor) -> None:  # what is differentiated twice comes by here twice
                    handle.remove()
                    f(g.detach())

                if x.requires_grad:
                    handle = x.register_hook(once)
                    self._hooks.append(handle)

            at, mine = reader.contraction.number, x.detach()
            if examples > 1 and at not in self._layouts:
                self._layouts[at] = layout(mine, axis, examples, known.get(at, []))
            base = x if x._base is None else x._base
            tensor = numbers.setdefault(base, len(numbers)), base._version
            read = Read(
                reader, mine, axis, number, examples, gradient, self._layouts.get(at, ""), x.requires_grad, tensor
            )
            for c in self._interested:
                c.read(read)

        with ExitStack() as stack:
            for watching in [c.watching() for c in self._collectors]:  # all made before any of them watches
                stack.enter_context(watching)
            if self._interested:
                stack.enter_context(at_readers(self._graph, self._readers, see, self._gate))
            yield

    def forget(self) -> None:
        """What still waits for gradients after a batch; it holds what layers read."""
        while self._hooks:
            self._hooks.pop().remove()

    def _gate(self, reader: Reader, x: Tensor, axis: int) -> Tensor:
        """What is read, behind all gates."""
        for c in self._interested:
            x = c.gate(reader, x, axis)
        return x

    def _again(self, inputs: Any, examples: int) -> dict[int, Known]:
        """What layers read of the first example, by number, from a batch of nothing else."""
        found: dict[int, Known] = {}

        def see(count: int, reader: Reader, x: Tensor, axis: int) -> None:
            found[reader.contraction.number] = layouts(x.detach(), axis, count)

        def run(count: int) -> None:
            one = map_tensors(
                inputs, lambda t: t[:1].expand(count, *t.shape[1:]).clone() if t.dim() and len(t) == examples else t
            )
            with torch.no_grad(), at_readers(self._graph, self._readers, partial(see, count)):
                torch.func.functional_call(self._graph.model, self._held, *as_call(one))

        try:
            run(2)
        except Exception:  # a model may take batches of one size only; what is wrong with it otherwise comes up again
            run(examples)
        return found


def count_examples(inputs: Any) -> int:
    """The size of a batch: of the first axis of the first tensor that has more than one of anything there."""
    sizes = [t.shape[0] for t in tensors(inputs) if t.dim()]
    return next((n for n in sizes if n > 1), 1)


def _turns(collectors: list[Collector]) -> dict[str, list[Collector]]:
    """Parameter -> those who want its gradient as soon as it is there."""
    found: dict[str, list[Collector]] = {}
    for c in collectors:
        for name in c.in_turn() if c.differentiates else ():
            found.setdefault(name, []).append(c)
    return found


def _checked(value: Any, number: int) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        told = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
        raise BadOption(
            f"the loss of batch {number} is {told}; give a loss(output, target) that returns a scalar tensor, such as "
            "the mean over examples"
        )
    if not torch.isfinite(value).all():
        raise NeedsData(f"batch {number} gives a loss of {value.item()}; scores from it would mean nothing")
    if not value.requires_grad:
        raise NeedsData("the loss does not depend on the model's parameters, so there is no gradient to score from")
    return value


def _gradients(
    value: Tensor, held: dict[str, Tensor], kept: Collection[str], turns: dict[str, list[Collector]], twice: bool
) -> dict[str, Tensor | None]:
    """Those of `kept`; those of `turns` are handed on one by one, and where nobody differentiates again, freed."""
    leaves = {n: p for n, p in held.items() if p.requires_grad}
    found: dict[str, Tensor | None] = dict.fromkeys(leaves)

    def arrived(name: str, gradient: Tensor) -> None:
        for c in turns.get(name, ()):
            c.gradient(name, gradient.detach(), held[name].detach())

    if twice:
        gradients = torch.autograd.grad(value, [*leaves.values()], allow_unused=True, create_graph=True)
        found |= zip(leaves, gradients, strict=True)
        for name, gradient in found.items():
            if gradient is not None:
                arrived(name, gradient)
        return {n: found[n] for n in kept}

    def take(name: str, leaf: Tensor) -> None:
        gradient, leaf.grad = leaf.grad, None
        assert gradient is not None
        arrived(name, gradient)
        if name in kept:
            found[name] = gradient

    handles = [p.register_post_accumulate_grad_hook(partial(take, n)) for n, p in leaves.items()]
    torch.autograd.backward(value, inputs=[*leaves.values()])
    for handle in handles:
        handle.remove()
    return {n: found[n] for n in kept}
