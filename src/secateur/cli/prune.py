"""`secateur prune`: one model, one budget, one file."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CheckpointError
from .options import (
    CHOICE,
    OUTPUT,
    SOURCES,
    SUBJECT,
    TRAINING,
    BatchSize,
    Calibration,
    Classes,
    Frozen,
    Input,
    Json,
    Kinds,
    Model,
    Repair,
    RepairKind,
    Schedule,
    ScheduleName,
    WeightDecay,
    Weights,
    option,
)
from .output import console, emit, note, only_json, percent, plain_table, row, whole

if TYPE_CHECKING:  # these import torch
    from .job import Done, Job

EPILOG = """Examples
$ secateur prune --model resnet20 --weights W.safetensors --data cifar10:DIR \\
    --budget macs=0.5 --criterion taylor --finetune 1 --out half.safetensors
$ secateur prune --model torchvision:resnet50 --budget macs=0.6,params=20e6
$ secateur prune --model digits-resnet --data digits --budget params=0.3 \\
    --method taylor:per_macs=0.5 --json

What --out wrote is loaded in Python, into a fresh model of the same class:
secateur.load("half.safetensors", into=model)"""

BudgetText = Annotated[
    str | None,
    option(
        "--budget",
        "BUDGET",
        "What may be left of macs, params, bytes or activations: a fraction kept, as in macs=0.5, or an amount, as in "
        "params=1e6; several, joined by commas, must all hold.",
        CHOICE,
    ),
]
CriterionSpec = Annotated[str | None, option("--criterion", "NAME", "How units are scored. Default: l2.", CHOICE)]
AllocatorSpec = Annotated[
    str | None, option("--allocator", "NAME", "How scores become a plan. Default: ranked.", CHOICE)
]
Power = Annotated[
    float | None,
    option(
        "--per-macs",
        "POWER",
        "Of the allocator: how much the MACs that a unit saves count beside its score. 0: not at all; with ranked, 1: "
        "score per MAC. Default: 0.",
        CHOICE,
    ),
]
MethodSpec = Annotated[
    str | None,
    option(
        "--method",
        "NAME",
        "A published method in place of criterion and allocator; `secateur methods` lists all three.",
        CHOICE,
    ),
]
DataSpec = Annotated[str | None, option("--data", "SPEC", SOURCES, SUBJECT)]
Epochs = Annotated[
    int,
    option(
        "--finetune",
        "EPOCHS",
        "Train the pruned model for so many epochs, by SGD with Nesterov momentum 0.9.",
        TRAINING,
        min=0,
    ),
]
Rate = Annotated[float, option("--lr", "X", "Highest learning rate.", TRAINING, min=0.0)]
Seed = Annotated[int, option("--seed", "N", "Same seed, same plan and same weights.")]
Out = Annotated[
    Path | None,
    option(
        "--out",
        "FILE",
        "Where the pruned model goes, a .safetensors file; one that is there is replaced. Default: nowhere.",
        OUTPUT,
    ),
]


def prune(
    model: Model,
    budget: BudgetText = None,
    weights: Weights = None,
    data: DataSpec = None,
    criterion: CriterionSpec = None,
    allocator: AllocatorSpec = None,
    per_macs: Power = None,
    method: MethodSpec = None,
    frozen: Frozen = None,
    kinds: Kinds = None,
    repair: RepairKind = Repair.NONE,
    calibration: Calibration = 512,
    finetune: Epochs = 0,
    lr: Rate = 0.02,
    batch_size: BatchSize = 128,
    schedule: ScheduleName = Schedule.ONECYCLE,
    weight_decay: WeightDecay = 5e-4,
    classes: Classes = None,
    input: Input = None,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
) -> None:
    """Prune a model to a budget, check the cut, fine-tune if asked, and save it.

    The cut model is held against the original with the removed units masked, in float64; if they differ, nothing is
    written. The test images are looked at before the cut, after it and after fine-tuning, never for choosing.
    """
    from ..surgery.checkpoint import save
    from . import job
    from .inputs import recipe_of

    by = job.choose(method, criterion, allocator, per_macs)
    allowed = job.allowance(budget, by)
    if data is not None and input is not None:
        raise typer.BadParameter("with --data the example is one of its images: leave one out", param_hint="--input")
    recipe = recipe_of(finetune, lr, batch_size=batch_size, schedule=schedule.value, weight_decay=weight_decay)
    writable(out)
    with only_json(json):
        start = time.monotonic()
        subject = (model, weights, classes, input, frozen, job.load_data(data, job.need(by, recipe, repair.value)))
        task = job.Job(*subject, by, allowed, calibration, repair.value, recipe, seed, kinds)
        done = job.work(task)
        if out is not None:
            save(done.pruned, out)
    for said in job.notes(task, done):
        note(said)
    found = describe(task, done, data) | {"out": out and str(out), "seconds": round(time.monotonic() - start, 3)}
    (emit if json else show)(found)


def writable(out: Path | None) -> None:
    """Refuse a place that cannot be written before the work, not after it. Raises `CheckpointError`."""
    if out is None:
        return
    if out.suffix != ".safetensors":
        raise typer.BadParameter(
            f"{str(out)!r} does not end in .safetensors, the only format written", param_hint="--out"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the folder of {out} cannot be made: {error}") from error
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise CheckpointError(f"{out} cannot be written: it is a folder, or its folder is not yours to write to")


def describe(job: Job, done: Done, data: str | None) -> dict[str, Any]:
    """The outcome as plain data."""
    pruned = done.pruned
    before, after = pruned.before.as_dict(), pruned.after.as_dict()
    widths = pruned.plan.widths(done.graph)
    return {
        "model": job.model,
        "weights": job.weights and str(job.weights),
        "data": data,
        "method": None if job.method.name == "" else job.method.name,
        "criterion": job.method.criterion.name,
        "budget": job.budget and str(job.budget),
        "repair": job.repair,
        "seed": job.seed,
        "before": before,
        "after": after,
        "kept": {field: after[field] / before[field] for field in before},
        "widths": [{"group": g.name, "units": g.size, "kept": widths[g.name]} for g in done.graph.groups],
        "check": asdict(pruned.check),
        "accuracy": {"dense": done.dense, "at_cut": done.at_cut, "finetuned": done.finetuned},
    }


def show(found: dict[str, Any]) -> None:
    """The same for a person."""
    from ..cost.cost import short

    out = console()
    table = plain_table("group", "units", "kept", "", numbers=("units", "kept", ""))
    whole(table, (width["group"] for width in found["widths"]), out)
    for width in found["widths"]:
        row(table, width["group"], width["units"], width["kept"], percent(width["kept"] / width["units"]))
    out.print(table)
    table = plain_table("cost", "before", "after", "kept", numbers=("before", "after", "kept"))
    for field, before in found["before"].items():
        row(table, field, short(before).strip(), short(found["after"][field]).strip(), percent(found["kept"][field]))
    out.print(table)
    check, accuracy = found["check"], found["accuracy"]
    limits = f"{check['max_error']:.1e}, {check['tolerance']:.0e} allowed"
    out.print(f"check: relative difference from {check['reference']}: {limits}", soft_wrap=True)
    words = {"dense": "dense", "at_cut": "at the cut", "finetuned": "fine-tuned"}
    measured = [f"{words[k]} {100 * v:.2f} %" for k, v in accuracy.items() if v is not None]
    if measured:
        out.print(f"accuracy on the test images: {', '.join(measured)}", soft_wrap=True)
    saved = f"saved to {found['out']}" if found["out"] else "not saved: no --out"
    out.print(f"{found['seconds']:.1f} s; {saved}", soft_wrap=True)
