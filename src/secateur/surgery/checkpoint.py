"""Save and load: one safetensors file with the weights, and the plans and their origin in its metadata. No pickle."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, PlanError, WrongArchitecture
from ..graph.example import from_json, map_tensors, to_json
from ..groups.graph import Graph, trace
from ..groups.group import KINDS
from ..groups.plan import Plan
from . import shards
from .cut import apply, edits

FORMAT = 1
KIND = "pruned model"
SHARD_BYTES = 5 * 2**30
MASK = "secateur.mask/"  # before the name of a parameter: its mask, eight weights a byte


@dataclass(frozen=True)
class Origin:
    """Where a pruned model came from: enough to make it again from a fresh instance of the original class."""

    cls: str
    example: Any  # shapes and dtypes as JSON
    shapes: dict[str, list[int]]  # of the dense model's parameters and buffers
    plans: tuple[Plan, ...]  # in the order they were applied

    @classmethod
    def of(cls, graph: Graph, plan: Plan) -> Origin:
        """The origin of a first cut."""
        kind = type(graph.model)
        return cls(f"{kind.__module__}.{kind.__qualname__}", to_json(graph.example), _shapes(graph.model), (plan,))

    def followed_by(self, plan: Plan) -> Origin:
        """The origin of a further cut."""
        return Origin(self.cls, self.example, self.shapes, (*self.plans, plan))


class Saveable(Protocol):
    """What `save` takes: a `Pruned`, or a `Sparse`, which has masks too."""

    @property
    def model(self) -> nn.Module:
        """The smaller model."""

    @property
    def origin(self) -> Origin:
        """Where it came from."""


def _shapes(model: nn.Module) -> dict[str, list[int]]:
    return {n: list(t.shape) for n, t in (*model.named_parameters(), *model.named_buffers())}


def save(pruned: Saveable, path: str | os.PathLike[str], *, max_shard_bytes: int = SHARD_BYTES) -> None:
    """Write weights, plans and origin to one `.safetensors` file, in one step: a full disk leaves the old file whole.

    Masks of single weights, where there are any, go into it too.
    Weights of more than `max_shard_bytes` go into several files beside it, each at most so large, with an index.
    Raises `CheckpointError`.
    """
    origin = pruned.origin
    facts = {
        "format": FORMAT,
        "class": origin.cls,
        "example": origin.example,
        "shapes": origin.shapes,
        "plans": [plan.model_dump(mode="json") for plan in origin.plans],
    }
    state = pruned.model.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__}, not a tensor, and would have to be pickled")
    masks: Mapping[str, Tensor] = getattr(pruned, "masks", {})
    if masks:
        shapes = {n: list(m.shape) for n, m in masks.items()}
        facts["sparse"] = {"shapes": shapes, "about": getattr(pruned, "about", {})}
    packed = {f"{MASK}{n}": torch.from_numpy(np.packbits(m.flatten().cpu().numpy())) for n, m in masks.items()}
    shards.write(Path(path), KIND, state | packed, facts, max_shard_bytes)


def load_masks(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Origin, Any]:
    """The masks of single weights that were saved, True = kept, their origin, and what is said about them.

    Raises `CheckpointError`, also for a file without masks.
    """
    tensors, facts = shards.read(Path(path), KIND)
    if "sparse" not in facts:
        raise CheckpointError(f"{path} holds no masks of single weights; read it with secateur.load")
    masks = {}
    for name, shape in facts["sparse"]["shapes"].items():
        bits = np.unpackbits(tensors[f"{MASK}{name}"].numpy(), count=prod(shape))
        masks[name] = torch.from_numpy(bits).bool().reshape(shape)
    plans = tuple(Plan.model_validate(plan) for plan in facts["plans"])
    return masks, Origin(facts["class"], facts["example"], facts["shapes"], plans), facts["sparse"]["about"]


def load(path: str | os.PathLike[str], *, into: nn.Module) -> nn.Module:
    """A model as saved: the plans are replayed on a copy of `into`, a fresh instance of the original class.

    `into` is untouched. Raises `CheckpointError` for a file that is missing, damaged, foreign or of another version,
    `WrongArchitecture` (names the first mismatch) for a file that belongs to another model.
    """
    tensors, facts = shards.read(Path(path), KIND)
    if facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {facts.get('format')!r}; this version reads {FORMAT}; update secateur"
        )
    tensors = {name: t for name, t in tensors.items() if not name.startswith(MASK)}
    _same_shapes(path, facts["shapes"], _shapes(into))
    model = copy.deepcopy(into)
    for stored in facts["plans"]:
        try:
            plan = Plan.model_validate(stored)
        except PlanError as error:
            raise CheckpointError(f"{path} holds a plan that cannot be read: {error}") from error
        example = _on(from_json(facts["example"]), model)
        apply(model, edits(_graph(model, example, plan), plan))
    _same_shapes(
        path, {n: list(t.shape) for n, t in tensors.items()}, {n: list(t.shape) for n, t in model.state_dict().items()}
    )
    for name, own in model.state_dict().items():
        if own.dtype != tensors[name].dtype:
            raise WrongArchitecture(
                f"{path} holds {name} as {tensors[name].dtype}, the model as {own.dtype}; bring it to that type"
            )
    state = model.state_dict()  # keeps the versions by which some modules read theirs
    state.update(tensors)
    model.load_state_dict(state)
    return model


def _graph(model: nn.Module, example: Any, plan: Plan) -> Graph:
    """The graph that the plan was made for: one with experts only where it names any, for these may exclude others."""
    graph = trace(model, example, kinds=[kind for kind in KINDS if kind != "expert"])
    missing = {*plan.kept} - {group.name for group in graph.groups}
    return trace(model, example, kinds=KINDS) if missing else graph


def _on(example: Any, model: nn.Module) -> Any:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return map_tensors(example, lambda t: t.to(device))


def _same_shapes(path: str | os.PathLike[str], stored: dict[str, list[int]], own: dict[str, list[int]]) -> None:
    for name in [*stored, *own]:
        theirs, ours = stored.get(name, "absent"), own.get(name, "absent")
        if theirs != ours:
            raise WrongArchitecture(
                f"{path} is of another model: {name} is {theirs} in the file and {ours} in the model; "
                "give load(..., into=) a fresh, unpruned instance of the class that was pruned"
            )
