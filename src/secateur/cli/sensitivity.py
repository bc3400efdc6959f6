"""`secateur sensitivity`: what each group alone costs at several keep ratios, and the ratios that follow from it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import CHOICE, OUTPUT, SUBJECT, Classes, Frozen, GivenData, Json, Kinds, Model, Weights, option
from .output import console, emit, note, only_json, percent, plain_table, row, whole

if TYPE_CHECKING:  # these import torch
    from ..allocation.curves import Sensitivity
    from ..cost.budget import Budget
    from ..criteria.base import Criterion
    from ..groups.graph import Graph
    from .measuring import Subject

EPILOG = """Examples
$ secateur sensitivity --model digits-resnet --weights W.safetensors \\
    --data digits --out runs/sensitivity
$ secateur sensitivity --model resnet20 --weights W.safetensors \\
    --data cifar10:DIR --criterion taylor --ratios 0.2,0.4,0.6,0.8 \\
    --budget macs=0.6 --out runs/sensitivity

Writes sensitivity.json, sensitivity.html and sensitivity.safetensors, which
keeps what is measured: after a kill the same command goes on, other --ratios
add to it, and --max-drop and --budget only read it."""

Images = Annotated[
    int,
    option(
        "--calibration",
        "N",
        "Training images that the criterion scores with and the model is measured on, in batches of 64.",
        SUBJECT,
        min=1,
    ),
]
CriterionSpec = Annotated[str, option("--criterion", "NAME", "How units are scored; the highest stay.", CHOICE)]
Ratios = Annotated[str, option("--ratios", "LIST", "Fractions of a group to keep, joined by commas.", CHOICE)]
MaxDrop = Annotated[
    float | None,
    option(
        "--max-drop",
        "X",
        "Tolerated for each group alone, in the metric's own units: 0.01 is one percent of accuracy. Default: 0.01.",
        CHOICE,
    ),
]
BudgetText = Annotated[
    str | None,
    option(
        "--budget", "BUDGET", "In place of --max-drop: the least tolerated drop that meets it, as macs=0.5.", CHOICE
    ),
]
MetricName = Annotated[str, option("--metric", "NAME", "Whose drop is tolerated: accuracy or loss.", CHOICE)]
Seed = Annotated[int, option("--seed", "N", "Decides which images.")]
Out = Annotated[Path, option("--out", "DIR", "Folder of the results.", OUTPUT, show_default=False)]


def sensitivity(
    context: typer.Context,
    model: Model,
    *,
    data: GivenData = "",
    out: Out,
    weights: Weights = None,
    criterion: CriterionSpec = "l1",
    ratios: Ratios = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9",
    max_drop: MaxDrop = None,
    budget: BudgetText = None,
    metric: MetricName = "accuracy",
    calibration: Images = 512,
    frozen: Frozen = None,
    kinds: Kinds = None,
    classes: Classes = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Prune each group alone to several widths, masked, and see what accuracy and loss do.

    Prints, for each group, the accuracy at each ratio, and the smallest ratio from which on no larger one costs more
    than is tolerated. Training images are looked at, never test images. What all groups cost together is not measured.
    """
    from ..report.sensitivity import write_sensitivity
    from . import measuring

    how = wanted(criterion, ratios, max_drop, budget, metric)
    with only_json(json):
        start = time.monotonic()
        measuring.folder(out)
        held = measuring.subject(model, weights, data, classes, frozen, kinds, calibration, seed)
        document = {**work(held, how, out), "command": measuring.typed(context)}
        document = measuring.finished(document, out, "sensitivity", time.monotonic() - start)
        page = write_sensitivity(document, out / "sensitivity.html")
    if weights is None:
        note("no --weights: this model has random weights")
    if json:
        emit(document)
    else:
        show(document)
        console().print(f"page: {page}", soft_wrap=True)


@dataclass(frozen=True)
class Wanted:
    """How to score, what to measure, and what may be lost; checked."""

    spec: str
    criterion: Criterion
    ratios: tuple[float, ...]
    max_drop: float
    budget: Budget | None
    metric: str


def wanted(spec: str, ratios: str, max_drop: float | None, budget: str | None, metric: str) -> Wanted:
    """From what was typed. Raises `UnknownName`, `BadBudget`, and a usage error for what clashes or is no number."""
    from ..cost.budget import Budget
    from ..criteria.base import CRITERIA
    from ..errors import UnknownName
    from ..experiments.sensitivity import METRICS
    from .inputs import made

    if max_drop is not None and budget is not None:
        raise typer.BadParameter("--max-drop says how much may go already: leave one out", param_hint="--budget")
    if metric not in METRICS:
        raise UnknownName("metric", metric, METRICS)
    try:
        fractions = tuple(float(part) for part in ratios.split(","))
    except ValueError:
        raise typer.BadParameter(f"{ratios!r} is no list of fractions; write 0.2,0.5", param_hint="--ratios") from None
    allowed = None if budget is None else Budget.parse(budget)
    tolerated = 0.01 if max_drop is None else max_drop
    return Wanted(spec, made(CRITERIA, spec, "--criterion"), fractions, tolerated, allowed, metric)


def work(held: Subject, how: Wanted, out: Path) -> dict[str, Any]:
    """Score, measure, choose: the outcome as plain data."""
    from ..experiments import sensitivity as engine
    from ..prune import score
    from . import measuring
    from .output import doing

    with doing("scoring"):
        scores = score(held.graph, how.criterion, batches=held.batches, seed=held.facts["seed"])
    path = out / "sensitivity.safetensors"
    with measuring.counting("widths", out) as progress:
        found = engine.sensitivity(held.graph, held.batches, scores, how.ratios, path=path, progress=progress)
    return {**held.facts, **describe(found, held.graph, how)}


def describe(found: Sensitivity, graph: Graph, how: Wanted) -> dict[str, Any]:
    """The outcome as plain data."""
    from ..cost.cost import CostModel

    if how.budget is None:
        keep = found.keep_for(how.max_drop, how.metric)
    else:
        keep = found.keep_to(graph, how.budget, how.metric)
    widths = found.widths(graph, keep)
    cost = CostModel(graph)
    values = found.values
    return {
        "criterion": how.spec,
        "ratios": list(found.ratios),
        "metric": how.metric,
        "max_drop": None if how.budget else how.max_drop,
        "budget": how.budget and str(how.budget),
        "dense": found.dense,
        "groups": [
            {
                "group": name,
                "kind": graph[name].kind,
                "units": size,
                "values": {metric: list(values[metric][name]) for metric in values},
                "keep": keep[name],
                "kept": widths[name],
            }
            for name, size in found.sizes.items()
        ],
        "before": cost.dense().as_dict(),
        "after": cost.at(widths).as_dict(),
    }


def show(document: dict[str, Any]) -> None:
    """The same for a person."""
    out, metric = console(), document["metric"]
    said = (lambda v: f"{100 * v:.1f}") if metric == "accuracy" else (lambda v: f"{v:.3g}")
    unit = "percent" if metric == "accuracy" else "mean"
    out.print(
        f"{metric} of the whole model on {document['images']} training images: {said(document['dense'][metric])} "
        f"({unit}); of each group alone, at the fraction kept of it:",
        soft_wrap=True,
    )
    heads = [f"{r:g}" for r in document["ratios"]]
    table = plain_table("group", "units", *heads, "keep", numbers=("units", *heads, "keep"))
    whole(table, (g["group"] for g in document["groups"]), out)
    for group in document["groups"]:
        row(table, group["group"], group["units"], *map(said, group["values"][metric]), f"{group['keep']:g}")
    out.print(table)
    macs = percent(document["after"]["macs"] / document["before"]["macs"])
    out.print(f"keep: {rule(document)}; together they leave {macs} of the MACs", soft_wrap=True)
    out.print("what all groups cost together is not measured here", soft_wrap=True)


def rule(document: dict[str, Any]) -> str:
    """How the ratios to keep were chosen."""
    if document["budget"]:
        return f"the least tolerated drop of {document['metric']} that meets {document['budget']}"
    return f"the smallest ratio from which on none costs more than {document['max_drop']:g} of {document['metric']}"
