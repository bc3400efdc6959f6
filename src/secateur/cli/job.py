"""The work of `secateur prune`: model, plan, cut, accuracy, fine-tuning. Imports torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import rich
import typer
from torch import nn

from ..allocation.base import ALLOCATORS, Allocator
from ..cost.budget import Budget
from ..criteria.base import CRITERIA, Criterion
from ..errors import NeedsData
from ..experiments.data import Data, load
from ..graph.example import Example
from ..groups.graph import Graph
from ..methods.base import METHODS, Method
from ..prune import Pruned, cut
from ..surgery.checkpoint import save
from ..surgery.recalibrate import recalibrate
from ..training.evaluate import evaluate_accuracy
from ..training.loop import fit
from ..training.recipe import Recipe
from ..training.seeds import child_seed, seeded
from .inputs import example_of, graph_of, made, model_of

Fold = Literal["none", "mean"]
BATCH = 64  # images a calibration batch, as in studies
EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Chosen(Method):
    """A criterion, an allocator and a folding put together on the command line."""

    scores: Criterion
    spreads: Allocator
    folds: Fold = "none"
    name = "of the options given"

    @property
    def criterion(self) -> Criterion:
        """As chosen."""
        return self.scores

    @property
    def allocator(self) -> Allocator:
        """As chosen."""
        return self.spreads

    @property
    def fold(self) -> Fold:
        """As chosen."""
        return self.folds


@dataclass(frozen=True)
class Job:
    """Everything asked for, checked."""

    model: str
    weights: Path | None
    classes: int | None
    input: str | None
    frozen: list[str] | None
    data: Data | None
    method: Method
    budget: Budget | None
    calibration: int
    recalibrate: bool
    recipe: Recipe
    seed: int


@dataclass(frozen=True)
class Done:
    """What came out. Accuracies are fractions of the test images, None where they were not measured."""

    graph: Graph
    pruned: Pruned
    dense: float | None
    at_cut: float | None
    finetuned: float | None


def choose(
    method: str | None, criterion: str | None, allocator: str | None, per: str | None, fold: Fold | None
) -> Method:
    """A method by name, or parts by name (L2 and one ranking by default).

    Raises `UnknownName`, and a usage error for values, and for options that clash.
    """
    parts = {"--criterion": criterion, "--allocator": allocator, "--per": per, "--fold": fold}
    given = [flag for flag, value in parts.items() if value is not None]
    if method is not None:
        if given:
            raise typer.BadParameter(f"the method {method!r} decides this itself: leave one out", param_hint=given[0])
        return made(METHODS, method, "--method")
    spec = allocator or "ranked"
    if per is not None:
        if spec.partition(":")[0] != "ranked":
            raise typer.BadParameter(f"{per!r} is for the ranked allocator, not for {spec!r}", param_hint="--per")
        spec += f"{',' if ':' in spec else ':'}per={per}"
    scores, spreads = made(CRITERIA, criterion or "l2", "--criterion"), made(ALLOCATORS, spec, "--allocator")
    return Chosen(scores, spreads, fold or "none")


def label(method: Method) -> str:
    """`method taylor`, `criterion l2`."""
    return f"criterion {method.scores.name}" if isinstance(method, Chosen) else f"method {method.name}"


def need(method: Method, recipe: Recipe, recalibrates: bool) -> str | None:
    """Why data is needed, or None where it is not."""
    evidence = ", ".join(sorted(method.criterion.needs - {"weights"}))
    if evidence:
        return f"{label(method)} scores from {evidence}"
    if method.fold == "mean":
        return "folding takes the mean of what removed units gave" + ("" if isinstance(method, Chosen) else f" ({label(method)})")
    if recalibrates:
        return "--recalibrate measures batch norms"
    return "--finetune trains" if recipe.epochs else None


def load_data(spec: str | None, why: str | None) -> Data | None:
    """The data set, or None. Raises `NeedsData` where there is a need and no data, and what `load` raises."""
    if spec is None and why is not None:
        raise NeedsData(f"{why}, which takes training images: give --data, such as --data digits or --data cifar10:FOLDER")
    return None if spec is None else load(spec)


def work(job: Job) -> Done:
    """Prune, measure, fine-tune. The seeds are those of a study's run, so that both give the same figures."""
    data = job.data
    net = model_of(job.model, job.classes or (data.classes if data else None), job.weights, job.seed)
    example: Example = data.example() if data and job.input is None else example_of(job.model, job.input)
    graph = graph_of(net, example, job.frozen)
    dense = accuracy(net, data)
    pruned = _cut(job, graph)
    at_cut = accuracy(pruned.model, data)
    if not job.recipe.epochs or data is None:
        return Done(graph, pruned, dense, at_cut, None)
    seed = child_seed(job.seed, "finetune")
    loader = data.loader("train", batch_size=job.recipe.batch_size, seed=seed, augment=True)
    rich.reconfigure(stderr=True)  # the bar of `fit` is drawn on rich's own console
    fit(pruned.model, loader, job.recipe, seed=seed, progress=sys.stderr.isatty())
    return Done(graph, pruned, dense, at_cut, accuracy(pruned.model, data))


def _cut(job: Job, graph: Graph) -> Pruned:
    batches = None
    if job.data is not None:
        loader = job.data.loader("train", batch_size=BATCH, seed=child_seed(job.seed, "calibration"))
        batches = list(islice(loader, -(-job.calibration // BATCH)))
    with seeded(child_seed(job.seed, "prune")):
        pruned = cut(graph, job.method.plan(graph, job.budget, batches=batches, seed=job.seed))
        if job.recalibrate and batches is not None:
            recalibrate(pruned.model, [x for x, _ in batches])
    return pruned


def accuracy(net: nn.Module, data: Data | None) -> float | None:
    """The fraction of test images told right; None without data."""
    return None if data is None else evaluate_accuracy(net, data.loader("test", batch_size=EVALUATION_BATCH))


def notes(job: Job, done: Done) -> list[str]:
    """What a person should know about how this came about."""
    said = []
    if job.weights is None:
        said.append("no --weights: this model has random weights")
    if job.method.trains:
        said.append(f"{label(job.method)} works while a network trains; here it ranked the weights as they are")
    after = done.pruned.after
    limits = job.budget.limits(done.pruned.before) if job.budget else {}
    missed = [f"{field} {getattr(after, field)} > {limit:.6g}" for field, limit in limits.items() if getattr(after, field) > limit]
    if missed:
        said.append(f"{label(job.method)} does not go by the budget, which is not met: {', '.join(missed)}")
    return said


__all__ = ["Budget", "Chosen", "Done", "Job", "choose", "label", "load_data", "need", "notes", "save", "work"]
