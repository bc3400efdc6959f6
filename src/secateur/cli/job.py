"""The work of `secateur prune`: model, plan, cut, accuracy, fine-tuning. Imports torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import typer
from torch import nn

from ..allocation.base import ALLOCATORS, Allocator
from ..cost.budget import Budget
from ..criteria.base import CRITERIA, Criterion
from ..errors import NeedsData
from ..evidence.base import from_data
from ..experiments.data import Data, load
from ..graph.example import Example
from ..groups.graph import Graph
from ..methods.base import METHODS, Method
from ..prune import Pruned, Repair, cut, mend
from ..surgery.fold import fold_means
from ..training.evaluate import evaluate_accuracy
from ..training.loop import fit
from ..training.recipe import Recipe
from ..training.seeds import child_seed, seeded
from .inputs import example_of, graph_of, made, model_of
from .output import doing

BATCH = 64  # images a calibration batch, as in studies
EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Chosen(Method):
    """A criterion and an allocator put together on the command line."""

    scores: Criterion
    spreads: Allocator

    @property
    def criterion(self) -> Criterion:  # type: ignore[override]  # chosen by the instance, not by the class
        """As chosen."""
        return self.scores

    @property
    def allocator(self) -> Allocator:
        """As chosen."""
        return self.spreads


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
    repair: Repair
    recipe: Recipe
    seed: int
    kinds: str | None = None


@dataclass(frozen=True)
class Done:
    """What came out. Accuracies are fractions of the test images, None where they were not measured."""

    graph: Graph
    pruned: Pruned
    dense: float | None
    at_cut: float | None
    finetuned: float | None


def choose(method: str | None, criterion: str | None, allocator: str | None, per_macs: float | None) -> Method:
    """A method by name, or a criterion and an allocator by name (L2 and one ranking by default).

    Raises `UnknownName`, and a usage error for values, and for options that clash.
    """
    parts = {"--criterion": criterion, "--allocator": allocator, "--per-macs": per_macs}
    given = [flag for flag, value in parts.items() if value is not None]
    if method is not None:
        if given:
            raise typer.BadParameter(f"the method {method!r} decides this itself: leave one out", param_hint=given[0])
        return made(METHODS, method, "--method")
    spec = allocator or "ranked"
    if per_macs is not None:
        spec += f"{',' if ':' in spec else ':'}per_macs={per_macs}"
    return Chosen(made(CRITERIA, criterion or "l2", "--criterion"), made(ALLOCATORS, spec, "--allocator"))


def allowance(text: str | None, method: Method) -> Budget | None:
    """The budget; a usage error where the parts chosen need one. A method by name says itself what it lacks."""
    if text is not None:
        return Budget.parse(text)
    if isinstance(method, Chosen) and getattr(method.allocator, "keep", None) is None:
        raise typer.BadParameter("how much may be left? For instance macs=0.5", param_hint="--budget")
    return None


def label(method: Method) -> str:
    """`method taylor`, `criterion l2`."""
    return f"criterion {method.scores.name}" if isinstance(method, Chosen) else f"method {method.name}"


def need(method: Method, recipe: Recipe, repair: Repair) -> str | None:
    """Why data is needed, or None where it is not."""
    evidence = ", ".join(from_data(method.criterion.needs))
    if evidence:
        return f"{label(method)} scores from {evidence} over training images"
    if method.folds_means:
        return f"{label(method)} folds the mean, over training images, of what removed units gave"
    if repair != "none":
        return f"--repair {repair} measures what layers see of training images"
    return "--finetune trains on images" if recipe.epochs else None


def load_data(spec: str | None, why: str | None) -> Data | None:
    """The data set, or None. Raises `NeedsData` where there is a need and no data, and what `load` raises."""
    if spec is None and why is not None:
        raise NeedsData(f"{why}: give --data, such as --data digits or --data cifar10:FOLDER")
    return None if spec is None else load(spec)


def work(job: Job) -> Done:
    """Prune, measure, fine-tune. The seeds are those of a study's run, so that both give the same figures."""
    data = job.data
    net = model_of(job.model, job.classes or (data.classes if data else None), job.weights, job.seed)
    example: Example = data.example() if data and job.input is None else example_of(job.model, job.input)
    graph = graph_of(net, example, job.frozen, job.kinds)
    dense = accuracy(net, data, "the dense model")
    with doing("scoring, cutting, checking"):
        pruned = _cut(job, graph)
    at_cut = accuracy(pruned.model, data, "the cut model")
    if not job.recipe.epochs or data is None:
        return Done(graph, pruned, dense, at_cut, None)
    seed = child_seed(job.seed, "finetune")
    loader = data.loader("train", batch_size=job.recipe.batch_size, seed=seed, augment=True)
    fit(pruned.model, loader, job.recipe, seed=seed, progress=sys.stderr.isatty())
    return Done(graph, pruned, dense, at_cut, accuracy(pruned.model, data, "the fine-tuned model"))


def _cut(job: Job, graph: Graph) -> Pruned:
    batches = None
    if job.data is not None:
        loader = job.data.loader("train", batch_size=BATCH, seed=child_seed(job.seed, "calibration"))
        batches = list(islice(loader, -(-job.calibration // BATCH)))
    inputs = [x for x, _ in batches or ()]
    with seeded(child_seed(job.seed, "prune")):
        plan = job.method.plan(graph, job.budget, batches=batches, seed=job.seed)
        if job.repair == "fold" and not plan.folds:
            plan = fold_means(graph, plan, inputs)
        pruned = cut(graph, plan)
        mend(graph, pruned, inputs, job.repair)
    return pruned


def accuracy(net: nn.Module, data: Data | None, what: str) -> float | None:
    """The fraction of test images told right; None without data."""
    if data is None:
        return None
    with doing(f"testing {what}"):
        return evaluate_accuracy(net, data.loader("test", batch_size=EVALUATION_BATCH))


def notes(job: Job, done: Done) -> list[str]:
    """What a person should know about how this came about."""
    said = []
    if job.weights is None:
        said.append("no --weights: this model has random weights")
    if job.method.trains:
        said.append(f"{label(job.method)} works while a network trains; here it ranked the weights as they are")
    after = done.pruned.after
    limits = job.budget.limits(done.pruned.before) if job.budget else {}
    missed = [
        f"{field} {getattr(after, field)} > {limit:.6g}"
        for field, limit in limits.items()
        if getattr(after, field) > limit
    ]
    if missed:
        said.append(f"{label(job.method)} does not go by the budget, which is not met: {', '.join(missed)}")
    return said
