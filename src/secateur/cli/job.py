"""The work of `secateur prune`, `plan` and `apply`: model, plan, cut, accuracy, fine-tuning. Imports torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from ..cost.budget import Budget
from ..errors import NeedsData
from ..evidence.base import Batches
from ..experiments.data import Data, load
from ..graph.example import Example
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from ..latency.asked import asked
from ..methods.base import Method
from ..prune import Pruned, Repair, allocate, collect, cut, mend, score
from ..prune import choose as choose_units
from ..schedule import Schedule
from ..stepwise import prune_in_steps
from ..surgery.fold import fold_means
from ..training.evaluate import evaluate_accuracy
from ..training.loop import fit
from ..training.recipe import Recipe
from ..training.seeds import child_seed, seeded
from .choice import Chosen, label
from .inputs import example_of, graph_of, kinds_of, model_of
from .output import doing

BATCH = 64  # images a calibration batch, as in studies
EVALUATION_BATCH = 500
NO_TRAINING = Recipe(epochs=0)


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
    steps: int = 1
    schedule: Schedule = "linear"


@dataclass(frozen=True)
class Done:
    """What came out. Accuracies are fractions of the test images, None where they were not measured."""

    graph: Graph
    pruned: Pruned
    dense: float | None
    at_cut: float | None
    finetuned: float | None


def load_data(spec: str | None, why: str | None) -> Data | None:
    """The data set, or None. Raises `NeedsData` where there is a need and no data, and what `load` raises."""
    if spec is None and why is not None:
        raise NeedsData(f"{why}: give --data, such as --data digits or --data cifar10:FOLDER")
    return None if spec is None else load(spec)


def work(job: Job) -> Done:
    """Prune, measure, fine-tune. The seeds are those of a study's run, so that both give the same figures."""
    data, graph = job.data, read(job)
    dense = accuracy(graph.model, data, "the dense model")
    with doing("scoring, cutting, checking"):
        pruned = _cut(job, graph)
    at_cut = accuracy(pruned.model, data, "the cut model")
    if not job.recipe.epochs or data is None:
        return Done(graph, pruned, dense, at_cut, None)
    seed = child_seed(job.seed, "finetune")
    loader = data.loader("train", batch_size=job.recipe.batch_size, seed=seed, augment=True)
    fit(pruned.model, loader, job.recipe, seed=seed, progress=sys.stderr.isatty())
    return Done(graph, pruned, dense, at_cut, accuracy(pruned.model, data, "the fine-tuned model"))


def read(job: Job) -> Graph:
    """The dense model of the job, read on an image of its data or the input typed."""
    data = job.data
    net = model_of(job.model, job.classes or (data.classes if data else None), job.weights, job.seed)
    example: Example = data.example() if data and job.input is None else example_of(job.model, job.input)
    return graph_of(net, example, job.frozen, job.kinds)


def planned(job: Job, graph: Graph) -> tuple[Plan, Scores]:
    """The plan that `work` would cut, and the scores of all units of the dense model."""
    batches = _batches(job)
    with doing("scoring"), seeded(child_seed(job.seed, "prune")):
        if isinstance(job.method, Chosen) and job.steps == 1:
            evidence = collect(graph, job.method.criterion, batches=batches, seed=job.seed)
            scores = score(graph, job.method.criterion, evidence=evidence)
            plan = allocate(graph, scores, job.budget, allocator=job.method.allocator)
            return choose_units(graph, plan, job.method.criterion, evidence), scores
        plan = _plan(job, graph, batches)
        return plan, score(graph, job.method.criterion, batches=batches, seed=job.seed)


def _batches(job: Job) -> list[tuple[Any, Any]] | None:
    if job.data is None:
        return None
    loader = job.data.loader("train", batch_size=BATCH, seed=child_seed(job.seed, "calibration"))
    return list(islice(loader, -(-job.calibration // BATCH)))


def _plan(job: Job, graph: Graph, batches: Batches | None) -> Plan:
    if job.steps == 1:
        return job.method.plan(graph, job.budget, batches=batches, seed=job.seed)
    assert job.budget is not None  # `check_steps`
    pruned = prune_in_steps(
        graph.model,
        graph.example,
        budget=job.budget,
        steps=job.steps,
        schedule=job.schedule,
        criterion=job.method.criterion,
        allocator=job.method.allocator,
        batches=batches,
        frozen=job.frozen or (),
        kinds=kinds_of(job.kinds),
        seed=job.seed,
    )
    return reduce(Plan.then, pruned.origin.plans)


def _cut(job: Job, graph: Graph) -> Pruned:
    batches = _batches(job)
    inputs = [x for x, _ in batches or ()]
    with seeded(child_seed(job.seed, "prune")):
        plan = _plan(job, graph, batches)
        if job.repair == "fold" and not plan.folds:
            plan = fold_means(graph, plan, inputs)
        pruned = cut(graph, plan, latency=asked(graph, job.budget, job.method.allocator))
        mend(graph, pruned, inputs, job.repair)
    return pruned


def accuracy(net: nn.Module, data: Data | None, what: str) -> float | None:
    """The fraction of test images told right; None without data."""
    if data is None:
        return None
    with doing(f"testing {what}"):
        return evaluate_accuracy(net, data.loader("test", batch_size=EVALUATION_BATCH))


def remarks(job: Job) -> list[str]:
    """What a person should know about the model and the method."""
    said = []
    if job.weights is None:
        said.append("no --weights: this model has random weights")
    if job.method.trains:
        said.append(f"{label(job.method)} works while a network trains; here it ranked the weights as they are")
    return said


def notes(job: Job, done: Done) -> list[str]:
    """What a person should know about how this came about."""
    said = remarks(job)
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
