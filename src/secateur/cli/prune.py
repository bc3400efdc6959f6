"""`secateur prune`: one model, one budget, one file."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

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
    Toward,
    WeightDecay,
    Weights,
    option,
)
from .outcome import finish
from .output import only_json

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
        "What may be left of macs, params, bytes, activations or latency_ms: a fraction kept, as in macs=0.5, or an "
        "amount, as in params=1e6; several, joined by commas, must all hold. Latency is measured here, on "
        "engine=NAME with threads=N: latency_ms=8,engine=onnxruntime.",
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
Steps = Annotated[
    int,
    option(
        "--steps",
        "N",
        "Prune in so many steps, each scored on what the one before left, without training in between.",
        CHOICE,
        min=1,
    ),
]
StepsSchedule = Annotated[
    Toward,
    option("--steps-schedule", "NAME", "What is left after each step: linear, cubic, geometric or halving.", CHOICE),
]
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
    steps: Steps = 1,
    steps_schedule: StepsSchedule = Toward.LINEAR,
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
    from . import choice, job
    from .inputs import recipe_of

    by = choice.choose(method, criterion, allocator, per_macs)
    allowed = choice.allowance(budget, by)
    choice.check_steps(steps, by, allowed)
    one_example(data, input)
    recipe = recipe_of(finetune, lr, batch_size=batch_size, schedule=schedule.value, weight_decay=weight_decay)
    writable(out)
    with only_json(json):
        start = time.monotonic()
        subject = (model, weights, classes, input, frozen, job.load_data(data, choice.need(by, recipe, repair.value)))
        task = job.Job(*subject, by, allowed, calibration, repair.value, recipe, seed, kinds)
        task = replace(task, steps=steps, schedule=steps_schedule.value)
        done = job.work(task)
        if out is not None:
            save(done.pruned, out)
    finish(task, done, data, out, start, json)


def one_example(data: str | None, input: str | None) -> None:
    """Refuse two sources of the example."""
    if data is not None and input is not None:
        raise typer.BadParameter("with --data the example is one of its images: leave one out", param_hint="--input")


def writable(out: Path | None, suffix: str = ".safetensors") -> None:
    """Refuse a place that cannot be written before the work, not after it. Raises `CheckpointError`."""
    if out is None:
        return
    if out.suffix != suffix:
        raise typer.BadParameter(f"{str(out)!r} does not end in {suffix}, the only format written", param_hint="--out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the folder of {out} cannot be made: {error}") from error
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise CheckpointError(f"{out} cannot be written: it is a folder, or its folder is not yours to write to")
