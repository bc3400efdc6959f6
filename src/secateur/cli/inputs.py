"""From what was typed to objects: a model with its weights, an example input, a graph, a method or criterion by spec.

Imports torch: commands import this when they run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import typer
from torch import nn

from .. import files
from ..errors import BadExample, BadOption, CheckpointError, StudyError, TrainingError, WrongArchitecture
from ..experiments.config import MethodSpec
from ..experiments.models import example_for, resolve
from ..graph.example import Example, tensors
from ..groups.graph import Graph, trace
from ..groups.group import WIDTHS
from ..registry import Registry
from ..surgery.checkpoint import KIND as PRUNED
from ..surgery.checkpoint import load
from ..training.recipe import Recipe
from ..training.seeds import child_seed, seeded

T = TypeVar("T")
DTYPES = {"float32": torch.float32, "int64": torch.int64}


def model_of(spec: str, classes: int | None, weights: Path | str | None, seed: int = 0) -> nn.Module:
    """The dense model of a spec; random weights follow from the seed. Raises what `resolve` raises."""
    try:
        with seeded(child_seed(seed, "init")):
            return resolve(spec, classes=classes, weights=weights)
    except WrongArchitecture as mismatch:
        if weights is not None and is_pruned(Path(weights)):
            raise WrongArchitecture(
                f"{weights} holds a model that is pruned already: give the dense weights, and a tighter budget"
            ) from mismatch
        raise


def model_of_any(spec: str, classes: int | None, weights: Path | None) -> nn.Module:
    """As `model_of`, but the file may also be one that `secateur prune` wrote; the model is then the pruned one."""
    if weights is not None and is_pruned(weights):
        return load(weights, into=model_of(spec, classes, None))
    return model_of(spec, classes, weights)


def is_pruned(path: Path) -> bool:
    """Whether the file holds a pruned model, whole and sound."""
    try:
        files.read(path, PRUNED)
    except CheckpointError:  # something else, or nothing at all: whoever reads it next says what
        return False
    return True


def example_of(spec: str, shape: str | None) -> Example:
    """The example input: of the shape typed, else the model's own. Raises `BadExample` where it has none."""
    if shape is not None:
        return read_input(shape)
    try:
        return example_for(spec)
    except BadExample as error:
        raise BadExample(f"{error} Say --input 1,3,224,224, or --data where the command takes it.") from error


def read_input(text: str) -> torch.Tensor:
    """A tensor from `1,3,224,224` (standard normal, always the same) or `1,16:int64` (zeros)."""
    shape, _, dtype = text.partition(":")
    try:
        sizes, kind = [int(part) for part in shape.split(",")], DTYPES[dtype or "float32"]
    except (ValueError, KeyError):
        raise typer.BadParameter(
            f"{text!r} is no shape; write 1,3,224,224, or 1,16:int64 (types: {', '.join(DTYPES)})", param_hint="--input"
        ) from None
    if min(sizes) < 1:
        raise typer.BadParameter(f"{text!r}: every size is at least 1", param_hint="--input")
    if kind == torch.int64:
        return torch.zeros(sizes, dtype=kind)
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0))


def graph_of(net: nn.Module, example: Example, frozen: Sequence[str] | None, kinds: str | None = None) -> Graph:
    """The model read once; `kinds` as typed, such as `channel,head`, or None for all.

    Raises what `trace` raises, and `BadExample` where the forward refuses the input's shape.
    """
    try:
        return trace(net, example, frozen=frozen or (), kinds=kinds_of(kinds))
    except (RuntimeError, AssertionError) as error:  # what torch and timm raise for shapes that do not fit
        shapes = ", ".join(str(list(t.shape)) for t in tensors(example))
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadExample(
            f"the model's forward fails on an input of shape {shapes}: {reason}. Give another --input, or other --data"
        ) from error


def kinds_of(text: str | None) -> tuple[str, ...]:
    """Kinds of unit as typed, such as `channel,head`; all widths where nothing was."""
    return WIDTHS if text is None else tuple(kind.strip() for kind in text.split(","))


def made(registry: Registry[T], text: str, flag: str) -> T:
    """An instance from NAME or NAME:OPTION=VALUE,...; options are checked by their types.

    Raises `UnknownName` for a name or an option, and a usage error for a value.
    """
    try:
        spec = MethodSpec.parse(text)
    except StudyError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error
    try:
        return registry.configured(spec.name, spec.options)
    except BadOption as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error


def recipe_of(epochs: int, lr: float, **rates: Any) -> Recipe:
    """A recipe with Nesterov momentum 0.9; a value that makes no sense is a usage error."""
    try:
        return Recipe(epochs=epochs, lr=lr, nesterov=True, **rates)
    except TrainingError as error:
        raise typer.BadParameter(str(error)) from error
