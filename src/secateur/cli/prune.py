"""`secateur prune`: one model, one budget, one file."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import CheckpointError
from .options import (
    SOURCES,
    BatchSize,
    Calibration,
    Classes,
    Frozen,
    Input,
    Json,
    Model,
    Recalibrate,
    ScheduleName,
    WeightDecay,
    Weights,
)
from .output import console, emit, note, only_json, percent, plain_table, row

if TYPE_CHECKING:  # these import torch
    from .job import Done, Job

EPILOG = """Examples

  secateur prune --model resnet20 --weights W.safetensors --data cifar10:DIR --budget macs=0.5 \\
      --criterion taylor --finetune 1 --out half.safetensors
  secateur prune --model torchvision:resnet50 --budget macs=0.6,params=20e6 --criterion l1 --out small.safetensors
  secateur prune --model digits-resnet --data digits --budget params=0.3 --method taylor:per=macs --json

Load what --out wrote in Python: secateur.load("half.safetensors", into=a_fresh_model_of_the_same_class)"""

BudgetText = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="FIELD=X,...",
        help="What may be left: macs, params, bytes; up to 1 the fraction kept, above 1 an amount; several must all hold.",
    ),
]
CriterionSpec = Annotated[str | None, typer.Option("--criterion", metavar="NAME", help="How units are scored. Default: l2.")]
AllocatorSpec = Annotated[
    str | None, typer.Option("--allocator", metavar="NAME", help="How scores become a plan: ranked (default), uniform, ...")
]
Per = Annotated[
    Literal["unit", "macs"] | None,
    typer.Option("--per", help="With --allocator ranked: rank by score (unit), or by score per MAC saved. Default: unit."),
]
FoldKind = Annotated[
    Literal["none", "mean"] | None,
    typer.Option("--fold", help="Put the mean of what removed units gave into the layers that read them. Default: none."),
]
MethodSpec = Annotated[
    str | None,
    typer.Option(
        "--method", metavar="NAME", help="A published method in place of the four above; `secateur methods` lists them."
    ),
]
DataSpec = Annotated[str | None, typer.Option("--data", metavar="SPEC", help=SOURCES)]
Epochs = Annotated[int, typer.Option("--finetune", metavar="EPOCHS", min=0, help="Train the pruned model so long, in place.")]
Rate = Annotated[float, typer.Option("--lr", metavar="X", min=0.0, help="Highest learning rate of --finetune.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Same seed, same plan and weights.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where the pruned model goes, a .safetensors file (replaced if it is there)."),
]


def prune(
    model: Model,
    budget: BudgetText = None,
    weights: Weights = None,
    data: DataSpec = None,
    criterion: CriterionSpec = None,
    allocator: AllocatorSpec = None,
    per: Per = None,
    fold: FoldKind = None,
    method: MethodSpec = None,
    frozen: Frozen = None,
    recalibrate: Recalibrate = False,
    calibration: Calibration = 512,
    finetune: Epochs = 0,
    lr: Rate = 0.02,
    batch_size: BatchSize = 128,
    schedule: ScheduleName = "onecycle",
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
    from . import job
    from .inputs import recipe_of

    writable(out)
    by = job.choose(method, criterion, allocator, per, fold)
    if method is None and budget is None:
        raise typer.BadParameter("how much may be left? For instance macs=0.5", param_hint="--budget")
    if data is not None and input is not None:
        raise typer.BadParameter("with --data the example is one of its images: leave one out", param_hint="--input")
    recipe = recipe_of(epochs=finetune, lr=lr, batch_size=batch_size, schedule=schedule, weight_decay=weight_decay)
    allowed = None if budget is None else job.Budget.parse(budget)
    with only_json(json):
        start = time.monotonic()
        images = job.load_data(data, job.need(by, recipe, recalibrate))
        subject = (model, weights, classes, input, frozen, images)
        task = job.Job(*subject, by, allowed, calibration, recalibrate, recipe, seed)
        done = job.work(task)
        if out is not None:
            job.save(done.pruned, out)
    for said in job.notes(task, done):
        note(said)
    found = describe(task, done, data) | {"out": out and str(out), "seconds": round(time.monotonic() - start, 3)}
    emit(found) if json else show(found)


def writable(out: Path | None) -> None:
    """Refuse a place that cannot be written before the work, not after it. Raises `CheckpointError`."""
    if out is None:
        return
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"{str(out)!r} does not end in .safetensors, the only format written", param_hint="--out")
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
    for width in found["widths"]:
        row(table, width["group"], width["units"], width["kept"], percent(width["kept"] / width["units"]))
    out.print(table)
    table = plain_table("cost", "before", "after", "kept", numbers=("before", "after", "kept"))
    for field, before in found["before"].items():
        row(table, field, short(before).strip(), short(found["after"][field]).strip(), percent(found["kept"][field]))
    out.print(table)
    check, accuracy = found["check"], found["accuracy"]
    out.print(f"check: differs by {check['max_error']:.1e} from {check['reference']} (up to {check['tolerance']:.0e} passes)")
    words = {"dense": "dense", "at_cut": "at the cut", "finetuned": "fine-tuned"}
    measured = [f"{words[k]} {100 * v:.2f} %" for k, v in accuracy.items() if v is not None]
    if measured:
        out.print(f"accuracy on the test images: {', '.join(measured)}")
    out.print(f"{found['seconds']:.1f} s; " + (f"saved to {found['out']}" if found["out"] else "not saved: no --out"), soft_wrap=True)
