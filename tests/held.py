"""What tests hold models to: facts that must not change, plans that remove something everywhere, losses and batches."""

from __future__ import annotations

import copy
import random
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import secateur
from secateur.graph.example import call, map_tensors, tensors
from secateur.groups.graph import Graph
from secateur.groups.plan import Plan

WIDE = sorted(n for n, c in secateur.criteria().items() if c.units != "depth")  # criteria of units, not of whole blocks
ELSEWHERE = {  # what an allocator needs beside scores and a budget; tests/allocation holds these to the same laws
    "given": "a file of widths, and so meets only one budget",
    "sensitivity": "a file of measurements",
    "legr": "an objective",
    "quickest": "latency, which is measured, and not the same twice",
}
MEETING = sorted({*secateur.allocators()} - {*ELSEWHERE})  # allocators for any budget


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, persistent or not."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that could be touched: bytes, strides, gradients, modes, every attribute, hooks, and three RNGs."""
    facts: dict[str, Any] = {"torch RNG": torch.get_rng_state().numpy().tobytes(), "random": random.getstate()}
    facts["NumPy RNG"] = np.random.get_state()[1].tobytes()  # noqa: NPY002  the global one is what must not move
    for name, t in tensors_of(model).items():
        facts[name] = (id(t), t.dtype, tuple(t.shape), t.stride(), t.requires_grad, _bytes(t), _bytes(t.grad))
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            plain = isinstance(value, (bool, int, float, str, tuple, type(None)))
            facts[f"{path}.{key}"] = (type(value), value if plain else id(value))
        facts[f"{path} holds"] = [*module._parameters, *module._buffers, *module._modules, *module._forward_hooks]
    return facts


def _bytes(t: Tensor | None) -> bytes | None:
    return None if t is None else t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


@contextmanager
def assert_unchanged(*models: nn.Module) -> Any:
    """The models and the RNGs are afterwards what they were before, whether the block raises or not."""
    before = [snapshot(m) for m in models]
    try:
        yield
    finally:
        for model, facts in zip(models, before, strict=True):
            after = snapshot(model)
            assert facts.keys() == after.keys()
            assert [k for k in facts if facts[k] != after[k]] == []


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """The same names, types, shapes and bytes, and the same int attributes in every module."""
    left, right = tensors_of(a), tensors_of(b)
    ints = [{(n, k): v for n, m in x.named_modules() for k, v in vars(m).items() if type(v) is int} for x in (a, b)]
    return (
        ints[0] == ints[1]
        and left.keys() == right.keys()
        and all(
            left[n].shape == right[n].shape and left[n].dtype == right[n].dtype and _bytes(left[n]) == _bytes(right[n])
            for n in left
        )
    )


def random_plan(graph: Graph, seed: int = 0, *, keep: float | None = None) -> Plan:
    """Keep a random part of every group: of random size, or `keep` of it and at least one."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in graph.groups:
        least = max(1, group.least)
        width = int(rng.integers(least, group.size + 1)) if keep is None else max(least, int(keep * group.size))
        kept[group.name] = np.sort(rng.permutation(group.size)[:width]).tolist()
    return Plan.keeping(graph, kept)


def run(model: nn.Module, example: Any) -> list[Tensor]:
    """Outputs in float64 and eval mode, on a copy."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        return tensors(call(model, map_tensors(example, lambda t: t.double() if t.is_floating_point() else t)))


def zeroed(graph: Graph, plan: Plan) -> nn.Module:
    """A reference that shares nothing with masked execution: weights that read removed units are set to zero."""
    model = copy.deepcopy(graph.model).double()
    held = tensors_of(model)
    for name, units in plan.kept.items():
        group = graph[name]
        gone = np.setdiff1d(np.arange(group.size), units)
        for member in group.members:
            if member.role == "in":
                index = torch.from_numpy(member.index[gone].reshape(-1))
                held[member.tensor].detach().index_fill_(member.axis, index, 0.0)
    return model


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference relative to the largest value, over all outputs."""
    assert [x.shape for x in a] == [y.shape for y in b]
    return max(float((x - y).abs().max() / x.abs().max()) for x, y in zip(a, b, strict=True))


def loss(output: Any, target: Any) -> Tensor:
    """A scalar of whatever a model gives, in which no output counts the same as another."""
    total = torch.zeros((), dtype=torch.float64)
    for i, t in enumerate(tensors(output), start=1):
        weights = torch.linspace(-1, 2, t.numel(), dtype=torch.float64).reshape(t.shape)
        total = total + i * (weights * t.double()).tanh().mean()
    return total


def batches(example: Any, count: int = 2) -> list[tuple[Any, Any]]:
    """Batches like the example, with other values and no targets."""

    def like(t: Tensor, seed: int) -> Tensor:
        noise = torch.randn(t.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return noise.to(t.dtype) if t.is_floating_point() else t

    return [(map_tensors(example, lambda t, seed=seed: like(t, seed)), None) for seed in range(count)]


def labelled(example: Tensor, count: int = 2, classes: int = 10) -> list[tuple[Tensor, Tensor]]:
    """Batches of eight random inputs like the example's, each with a class."""
    generator = torch.Generator().manual_seed(2)
    shape, target = (8, *example.shape[1:]), torch.arange(8) % classes
    return [(torch.randn(shape, generator=generator), target) for _ in range(count)]
