"""`secateur oracle`: what the loss does when one unit alone is gone, and which criteria foresee it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import CHOICE, OUTPUT, SUBJECT, Classes, Frozen, GivenData, Json, Kinds, Model, Weights, option
from .output import console, emit, note, only_json, plain_table, row, whole

if TYPE_CHECKING:  # these import torch
    from ..criteria.base import Criterion
    from ..experiments.correlation import Correlation
    from ..experiments.oracle import Oracle
    from ..groups.graph import Graph
    from ..groups.scores import Scores
    from .measuring import Subject

EPILOG = """Examples
$ secateur oracle --model digits-resnet --weights W.safetensors \\
    --data digits --out runs/oracle
$ secateur oracle --model resnet20 --weights W.safetensors \\
    --data cifar10:DIR --samples 300 --criteria l1,l2,bn-scale,taylor,fpgm \\
    --out runs/oracle

Writes oracle.json, oracle.html and oracle.safetensors, which keeps what is
measured: after a kill the same command goes on, and with more --samples or
other --criteria only what is new is measured."""

Images = Annotated[
    int,
    option(
        "--calibration",
        "N",
        "Training images that criteria score with and the loss is measured on, in batches of 64.",
        SUBJECT,
        min=1,
    ),
]
Samples = Annotated[
    int,
    option(
        "--samples",
        "N",
        "Units that are left out one by one; each group gives its share. More than there are: all.",
        CHOICE,
        min=1,
    ),
]
Criteria = Annotated[
    list[str],
    option(
        "--criteria",
        "NAMES",
        "Criteria to hold against the oracle, joined by commas, with options as in l1:reduction=sum; or all, which "
        "leaves out those that do not fit the model, with a note. May be repeated.",
        CHOICE,
    ),
]
Resamples = Annotated[int, option("--resamples", "N", "Bootstrap resamples behind the intervals.", CHOICE, min=1)]
Seed = Annotated[int, option("--seed", "N", "Decides which images, which units and which resamples.")]
Out = Annotated[Path, option("--out", "DIR", "Folder of the results.", OUTPUT, show_default=False)]


def oracle(
    context: typer.Context,
    model: Model,
    *,
    data: GivenData = "",
    out: Out,
    weights: Weights = None,
    samples: Samples = 200,
    criteria: Criteria = ["random,l1,l2,taylor"],  # noqa: B006  typer reads it, nobody changes it
    calibration: Images = 512,
    resamples: Resamples = 2000,
    frozen: Frozen = None,
    kinds: Kinds = None,
    classes: Classes = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Leave units out one at a time, and see which criteria foresee what the loss does.

    Prints Pearson, Spearman and Kendall correlations of each criterion's scores with the squared change of the loss,
    with 95 % bootstrap intervals over units; over all units, and the mean over groups of the correlation within.
    """
    from ..report.oracle import write_oracle
    from . import measuring

    chosen, every = measuring.criteria(criteria)
    with only_json(json):
        start = time.monotonic()
        measuring.folder(out)
        held = measuring.subject(model, weights, data, classes, frozen, kinds, calibration, seed)
        document = {**work(held, chosen, every, samples, resamples, out), "command": measuring.typed(context)}
        document = measuring.finished(document, out, "oracle", time.monotonic() - start)
        page = write_oracle(document, out / "oracle.html")
    for name, why in document["refused"].items():
        note(f"{name} is left out: {why}")
    if weights is None:
        note("no --weights: this model has random weights")
    if json:
        emit(document)
    else:
        show(document)
        console().print(f"page: {page}", soft_wrap=True)


def work(
    held: Subject, chosen: dict[str, Criterion], leave_out: bool, samples: int, resamples: int, out: Path
) -> dict[str, Any]:
    """Score, measure, correlate: the outcome as plain data."""
    from ..experiments import oracle as engine
    from ..experiments.correlation import correlations
    from . import measuring

    seed = held.facts["seed"]
    scores, refused = score_all(held, chosen, seed, leave_out=leave_out)
    with measuring.counting("units", out) as progress:
        path = out / "oracle.safetensors"
        found = engine.oracle(held.graph, held.batches, units=samples, seed=seed, path=path, progress=progress)
    lines = correlations(found, scores, resamples=resamples, seed=seed)
    return {**held.facts, **describe(found, lines, scores, held.graph), "resamples": resamples, "refused": refused}


def score_all(
    held: Subject, chosen: dict[str, Criterion], seed: int, *, leave_out: bool
) -> tuple[dict[str, Scores], dict[str, str]]:
    """Scores by the criterion's spec, from one pass over the images, and why some have none.

    Raises `BadModel` where a criterion does not fit the model, unless such are left out.
    """
    from ..errors import BadModel
    from ..prune import collect, score
    from .output import doing

    scores, refused = {}, {}
    with doing("scoring"):
        evidence = collect(held.graph, chosen.values(), batches=held.batches, seed=seed)
        for name, criterion in chosen.items():
            try:
                scores[name] = score(held.graph, criterion, evidence=evidence)
            except BadModel as error:
                if not leave_out:
                    raise
                refused[name] = str(error)
    return scores, refused


def describe(found: Oracle, lines: list[Correlation], scores: dict[str, Scores], graph: Graph) -> dict[str, Any]:
    """The outcome as plain data."""
    taken = [name for name, _ in found.units]
    of = {name: found.of(each).tolist() for name, each in scores.items()}
    changes = found.change.tolist()
    return {
        "dense_loss": found.dense_loss,
        "against": "squared",
        "correlations": [asdict(line) for line in lines],
        "groups": [
            {"group": g.name, "kind": g.kind, "units": g.size, "measured": taken.count(g.name)} for g in graph.groups
        ],
        "units": [
            {"group": name, "unit": unit, "change": changes[i], "scores": {c: of[c][i] for c in of}}
            for i, (name, unit) in enumerate(found.units)
        ],
    }


def show(document: dict[str, Any]) -> None:
    """The same for a person."""
    out, lines = console(), document["correlations"]
    units = len(document["units"])
    total = sum(g["units"] for g in document["groups"])
    out.print(
        f"{units} of {total} units left out one at a time; loss of the whole model on {document['images']} training "
        f"images: {document['dense_loss']:.4g}",
        soft_wrap=True,
    )
    for part, title in (("overall", f"over all {units} units"), ("within", "within groups, mean over groups")):
        names = ("Pearson", "Spearman", "Kendall")
        extra = ("groups",) if part == "within" else ()
        table = plain_table("criterion", *names, *extra, numbers=(*names, *extra), title=title)
        whole(table, (line["name"] for line in lines), out)
        for line in lines:
            cells = [said(line[part][name.lower()]) for name in names]
            row(table, line["name"], *cells, *([line["groups"]] if extra else []))
        out.print(table)
    for why in dict.fromkeys(e["why"] for line in lines for p in ("overall", "within") for e in line[p].values()):
        if why:
            out.print(f"undefined: {why}", soft_wrap=True)
    out.print("with the squared change of the loss; in brackets: 95 % bootstrap intervals over units", soft_wrap=True)


def said(estimate: dict[str, Any]) -> str:
    """`0.93 [0.91, 0.95]`."""
    from ..experiments.correlation import Estimate

    return str(Estimate(**estimate))
