"""`secateur apply`: a plan file, cut."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    BatchSize,
    Calibration,
    Classes,
    Input,
    Json,
    Model,
    Repair,
    RepairKind,
    Schedule,
    ScheduleName,
    WeightDecay,
    Weights,
)
from .outcome import finish
from .output import note, only_json
from .prune import DataSpec, Epochs, Out, Rate, Seed, one_example, writable

if TYPE_CHECKING:  # this imports torch
    from ..groups.plan_file import PlanFile

EPILOG = """Examples
$ secateur apply plan.json --model resnet20 --weights W.safetensors \\
    --data cifar10:DIR --repair recalibrate --out half.safetensors

`secateur plan` writes such a file, and `secateur diff` compares two."""

File = Annotated[
    Path, typer.Argument(metavar="PLAN", help="A plan file, as `secateur plan` writes.", show_default=False)
]
SAID = ("method", "criterion", "allocator", "budget")  # what the file says about itself


def apply(
    plan: File,
    model: Model,
    weights: Weights = None,
    data: DataSpec = None,
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
    """Cut a model as a plan file says, check the cut, fine-tune if asked, and save it.

    A file that does not fit the model is refused, by the name of the group. What follows is as in `prune`.
    """
    from ..groups.plan_file import PlanFile
    from ..surgery.checkpoint import save
    from . import choice, job
    from .inputs import recipe_of

    file = PlanFile.read(plan)
    by = choice.Written(file)
    one_example(data, input)
    recipe = recipe_of(finetune, lr, batch_size=batch_size, schedule=schedule.value, weight_decay=weight_decay)
    writable(out)
    with only_json(json):
        start = time.monotonic()
        subject = (model, weights, classes, input, None, job.load_data(data, choice.need(by, recipe, repair.value)))
        task = job.Job(*subject, by, None, calibration, repair.value, recipe, seed, ",".join(file.kinds) or None)
        done = job.work(task)
        if out is not None:
            save(done.pruned, out)
    for said in _remarks(file, plan, model, [g.name for g in done.graph.groups]):
        note(said)
    finish(task, done, data, out, start, json, plan=str(plan), **{field: file.about.get(field) for field in SAID})


def _remarks(file: PlanFile, path: Path, model: str, groups: list[str]) -> list[str]:
    """Where the file may be meant for another model."""
    said, others = [], [name for name in groups if name not in file.groups]
    if file.about.get("model", model) != model:
        said.append(f"{path} was made for --model {file.about['model']}")
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        said.append(f"{len(others)} groups of the model are not in {path} and stay whole: {shown}")
    return said
