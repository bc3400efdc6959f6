"""Do one run: train the dense model, or prune it and recover it in one arm. The same run gives the same result."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import files
from ..cost.budget import Budget
from ..groups.graph import Graph, trace
from ..prune import Pruned, cut, mend
from ..surgery.fold import fold_means
from ..training.evaluate import evaluate_accuracy
from ..training.loop import fit
from ..training.recipe import Recipe
from ..training.seeds import child_seed, seeded
from .config import Run
from .data import Data, load
from .environment import environment
from .models import resolve
from .protocol import recipe_for, reinitialise

KIND = "dense weights"


def execute(run: Run, folder: Path) -> dict[str, Any]:
    """The result of a run as plain JSON. Weights and checkpoints live under `folder`."""
    data = load(run.setting.data)
    result = _dense(run, data, folder) if run.arm == "dense" else _pruned(run, data, folder)
    return result | {"environment": environment()}


def _fresh(run: Run, data: Data) -> nn.Module:
    with seeded(child_seed(run.seed, "init")):
        return resolve(run.model, classes=data.classes, weights=run.setting.weights)


def _weights(run: Run, folder: Path) -> Path:
    return folder / "weights" / f"{run.key}.safetensors"


def _dense(run: Run, data: Data, folder: Path) -> dict[str, Any]:
    model = _fresh(run, data)
    if run.setting.weights is None:
        _train(model, run, data, run.setting.train, folder, hooks=[run.method.make()] if run.method else [])
    accuracy = _accuracy(model, data)
    files.write(_weights(run, folder), KIND, model.state_dict(), {})
    _checkpoint(run, folder).unlink(missing_ok=True)
    return {"accuracy": accuracy}


def dense_model(run: Run, data: Data, folder: Path) -> nn.Module:
    """The trained dense model that a run prunes."""
    model = _fresh(run, data)
    tensors, _ = files.read(_weights(run.dense, folder), KIND)
    model.load_state_dict(tensors)
    return model


def calibration(run: Run, data: Data, batch: int = 64) -> list[tuple[Tensor, Tensor]]:
    """The batches of training images that criteria may look at."""
    batches = -(-run.setting.calibration // batch)
    return list(islice(data.loader("train", batch_size=batch, seed=child_seed(run.seed, "calibration")), batches))


def prune_for(run: Run, data: Data, graph: Graph) -> Pruned:
    """The pruned model of a run, before any recovery."""
    assert run.method is not None
    assert run.budget is not None
    batches = calibration(run, data)
    with seeded(child_seed(run.seed, "prune")):
        plan = run.method.make().plan(graph, Budget.parse(run.budget), batches=batches, seed=run.seed)
        inputs = [x for x, _ in batches]
        if run.setting.repair == "fold" and not plan.folds:
            plan = fold_means(graph, plan, inputs)
        pruned = cut(graph, plan)
        mend(graph, pruned, inputs, run.setting.repair)
    return pruned


def _pruned(run: Run, data: Data, folder: Path) -> dict[str, Any]:
    dense = dense_model(run, data, folder)
    graph = trace(dense, data.example(), frozen=run.setting.frozen)
    pruned = prune_for(run, data, graph)
    model, at_cut = pruned.model, _accuracy(pruned.model, data)
    recipe = recipe_for(run.arm, run.setting.train, run.setting.finetune, pruned.before, pruned.after)
    if run.arm != "finetune":
        reinitialise(model, child_seed(run.seed, "scratch"))
    _train(model, run, data, recipe, folder)
    widths = pruned.plan.widths(graph)
    result = {
        "accuracy": _accuracy(model, data),
        "accuracy_dense": _accuracy(dense, data),
        "accuracy_at_cut": at_cut,
        "epochs": recipe.epochs,
        "before": pruned.before.as_dict(),
        "after": pruned.after.as_dict(),
        "widths": [[g.name, g.size, widths[g.name]] for g in graph.groups],
        "max_error": pruned.check.max_error,
    }
    _checkpoint(run, folder).unlink(missing_ok=True)
    return result


def _checkpoint(run: Run, folder: Path) -> Path:
    return folder / "checkpoints" / f"{run.key}.safetensors"


def _train(model: nn.Module, run: Run, data: Data, recipe: Recipe, folder: Path, hooks: Any = ()) -> None:
    seed = child_seed(run.seed, run.arm)
    loader = data.loader("train", batch_size=recipe.batch_size, seed=seed, augment=True)
    fit(model, loader, recipe, hooks=hooks, seed=seed, checkpoint=_checkpoint(run, folder), every=100)


def _accuracy(model: nn.Module, data: Data) -> float:
    with torch.inference_mode():
        return evaluate_accuracy(model, data.loader("test", batch_size=500))
