"""Train a model in place: one plain loop that methods plug into as hooks, and that can be killed at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from secateur.errors import TrainingError
from secateur.methods.hook import Hook
from secateur.training.distributed import local_device, team
from secateur.training.evaluate import Loss, device_of, keeping_modes
from secateur.training.fitting import Evaluate, Fitting
from secateur.training.history import History
from secateur.training.loader import Loader
from secateur.training.progress import bar
from secateur.training.recipe import Recipe
from secateur.training.seeds import seeded


def fit(
    model: nn.Module,
    loader: Loader,
    recipe: Recipe,
    *,
    hooks: Sequence[Hook] = (),
    loss: Loss = F.cross_entropy,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    every: int = 200,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 1,
    patience: int | None = None,
    progress: bool = False,
    device: torch.device | str | None = None,
) -> History:
    """Train `model` in place by `recipe`; returns one row per epoch.

    `loss(outputs, y)` is a mean over the examples of a batch. All random numbers of step s follow from (seed, s), so on
    a CPU the same call gives the same weights, bit for bit (on a GPU as far as its kernels are deterministic).

    With `checkpoint`, the run is stored there after every `every` steps and at its end. The same call made again after
    a kill at any moment goes on from there and ends with the weights of a run that was never killed; after the end it
    restores the weights and returns at once.

    `evaluate(model)`, higher is better, is asked before training, after every `evaluate_every` epochs and at the end.
    With `patience` the run stops once that many evaluations in a row have not exceeded the best before them.

    Under torchrun each process takes its rows of every batch; hooks see averaged gradients; rank 0 alone writes and
    shows progress; metrics are averaged. `device` defaults to the local GPU there, and else to where the model is.

    The modes of the modules and the caller's random generators are put back at the end; gradients are None.

    Raises TrainingError for a loss that is not finite and for arguments that do not fit each other, CheckpointError for
    a checkpoint that is damaged, cannot be written, or belongs to another configuration (WrongArchitecture: model).
    """
    _check(loader, recipe, every, evaluate, evaluate_every, patience)
    device = torch.device(device) if device else local_device() or device_of(model)
    processes = team(device)
    with keeping_modes(model), seeded(seed):
        fitting = Fitting(
            model=model.to(device),
            loader=loader,
            recipe=recipe,
            hooks=hooks,
            loss=loss,
            seed=seed,
            path=Path(checkpoint) if checkpoint else None,
            every=every,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            patience=patience,
            team=processes,
            device=device,
        )
        fitting.resume()
        with bar(fitting.total, progress and processes.rank == 0) as report:
            fitting.go(report)
    return fitting.history


def _check(
    loader: Loader,
    recipe: Recipe,
    every: int,
    evaluate: Evaluate | None,
    evaluate_every: int,
    patience: int | None,
) -> None:
    for name, value in {"every": every, "evaluate_every": evaluate_every, "patience": patience}.items():
        if value is not None and value < 1:
            raise TrainingError(f"{name} = {value}: give at least 1.")
    if patience and not evaluate:
        raise TrainingError(f"patience = {patience} without `evaluate`: there is nothing to be patient about.")
    if recipe.batch_size != loader.batch_size:
        raise TrainingError(
            f"the recipe asks for batches of {recipe.batch_size} and the loader gives {loader.batch_size}: "
            "make both the same, for instance by Loader(..., batch_size=recipe.batch_size)."
        )
