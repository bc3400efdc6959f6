"""`secateur compare`: methods against each other, over budgets, seeds and arms; killed at any moment, it goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import CheckpointError, StudyError
from .live import live
from .options import (
    CHOICE,
    OUTPUT,
    REPAIRS,
    SCHEDULES,
    SOURCES,
    SPECS,
    SUBJECT,
    TRAINING,
    Arm,
    Frozen,
    Json,
    Repair,
    Schedule,
    option,
)
from .output import note, only_json
from .report import present

if TYPE_CHECKING:  # these import torch
    from ..experiments.config import Study
    from ..experiments.store import Row

EPILOG = """Examples
$ secateur compare --preset demo --out runs/demo
$ secateur compare --model resnet20 --weights W.safetensors \\
    --data cifar10:DIR --method taylor --method l1 --budget macs=0.5 \\
    --seed 0 --seed 1 --arm finetune --arm scratch-e --out runs/mine
$ secateur compare --study runs/mine/mine.study.json --out runs/mine

After a kill, give the same command again: what is done stays done, a run
that was at work goes on from its checkpoint, and failed ones are tried
again. When runs failed, the exit code is 3."""

WHICH = "Which study"
Preset = Annotated[str | None, option("--preset", "NAME", "One that comes with secateur: demo.", WHICH)]
StudyFile = Annotated[Path | None, option("--study", "FILE", "A JSON file, as stored in DIR/NAME.study.json.", WHICH)]
Models = Annotated[list[str] | None, option("--model", "SPEC", f"{SPECS} May be repeated.", SUBJECT)]
DataSpec = Annotated[str | None, option("--data", "SPEC", SOURCES, SUBJECT)]
Weights = Annotated[
    Path | None,
    option("--weights", "FILE", "Dense weights, a .safetensors file. Default: train the dense model.", SUBJECT),
]
Methods = Annotated[
    list[str] | None,
    option(
        "--method",
        "NAME",
        "Such as taylor or taylor:per_macs=0.5; `secateur methods` lists them. May be repeated.",
        CHOICE,
    ),
]
Budgets = Annotated[
    list[str] | None,
    option("--budget", "BUDGET", "What may be left, as for prune. May be repeated. Default: macs=0.5.", CHOICE),
]
Seeds = Annotated[list[int] | None, option("--seed", "N", "May be repeated. Default: 0.", SUBJECT)]
Arms = Annotated[
    list[Arm] | None,
    option(
        "--arm",
        "NAME",
        "After the cut: finetune; or the same widths trained from scratch, as long as the dense model (scratch-e) "
        "or for the same compute (scratch-b). May be repeated. Default: finetune.",
        TRAINING,
    ),
]
TrainEpochs = Annotated[
    int | None, option("--train-epochs", "N", "Of the dense model, and of scratch. Default: 10.", TRAINING, min=0)
]
TrainLr = Annotated[float | None, option("--train-lr", "X", "Highest learning rate there. Default: 0.1.", TRAINING)]
FinetuneEpochs = Annotated[int | None, option("--finetune-epochs", "N", "Default: 4.", TRAINING, min=0)]
FinetuneLr = Annotated[
    float | None, option("--finetune-lr", "X", "Highest learning rate there. Default: 0.02.", TRAINING)
]
BatchSize = Annotated[int | None, option("--batch-size", "N", "Images a step. Default: 128.", TRAINING, min=1)]
Decay = Annotated[float | None, option("--weight-decay", "X", "Of SGD. Default: 0.0005.", TRAINING, min=0.0)]
ScheduleName = Annotated[Schedule | None, option("--schedule", "NAME", f"{SCHEDULES} Default: onecycle.", TRAINING)]
Calibration = Annotated[
    int | None,
    option("--calibration", "N", "Training images that criteria and --repair look at. Default: 512.", CHOICE, min=1),
]
RepairKind = Annotated[Repair | None, option("--repair", "HOW", f"{REPAIRS} Default: none.", CHOICE)]
Out = Annotated[Path, option("--out", "DIR", "Folder of the study: the table of runs, weights, report.html.", OUTPUT)]
Workers = Annotated[int | None, option("--workers", "N", "Processes at work. Default: one a core, 2 at most.", min=1)]


def compare(
    out: Out,
    preset: Preset = None,
    study: StudyFile = None,
    model: Models = None,
    data: DataSpec = None,
    method: Methods = None,
    budget: Budgets = None,
    seed: Seeds = None,
    arm: Arms = None,
    weights: Weights = None,
    train_epochs: TrainEpochs = None,
    train_lr: TrainLr = None,
    finetune_epochs: FinetuneEpochs = None,
    finetune_lr: FinetuneLr = None,
    batch_size: BatchSize = None,
    weight_decay: Decay = None,
    schedule: ScheduleName = None,
    calibration: Calibration = None,
    repair: RepairKind = None,
    frozen: Frozen = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Compare methods: every model, method, budget, seed and arm, with the same dense weights and recipes.

    Prints a table, and writes DIR/report.html. What to compare comes from --preset, from --study, or from --model,
    --data, --method and the options below them.
    """
    from . import studies

    subject = {"model": model, "data": data, "weights": weights, "seed": seed, "frozen": frozen}
    choice = {"method": method, "budget": budget, "calibration": calibration, "repair": repair and repair.value}
    rates = {"batch_size": batch_size, "weight_decay": weight_decay, "schedule": schedule and schedule.value}
    train = {"arm": [a.value for a in arm or []], "train_epochs": train_epochs, "train_lr": train_lr}
    finetune = {"finetune_epochs": finetune_epochs, "finetune_lr": finetune_lr}
    wanted = studies.study_of(preset, study, {**subject, **choice, **rates, **train, **finetune}, out)
    with only_json(json):
        studies.check(wanted)
        rows = run(wanted, out, workers or cores())
    present(rows, out / "report.html", studies.again(wanted, preset, out), json)
    refuse_failed(rows)


def refuse_failed(rows: list[Row]) -> None:
    """Raise `StudyError` when runs failed; each was named as it did."""
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        raise StudyError(f"{failed} of {len(rows)} runs failed, as said above; the same command tries them again")


def run(study: Study, out: Path, workers: int) -> list[Row]:
    """Every run that is not done yet, with its progress shown. Ctrl-C ends with code 130 and says how to go on."""
    from ..experiments import study as engine

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the folder {out} cannot be made: {error}") from error
    keys = {run.key for run in study.runs()}
    done = {row.run.key for row in engine.store_of(out).rows(keys) if row.status == "done"}
    try:
        with live(len(keys), done) as report:  # a worker takes seconds to start: no more of them than there are runs
            return engine.compare(study, out, workers=min(workers, len(keys - done)) or 1, report=report)
    except KeyboardInterrupt:
        note(f"interrupted; what is done lies in {out}, and the same command goes on from there")
        raise typer.Exit(130) from None


def cores() -> int:
    """Cores that this process may use, 2 at most: runs are small, and each takes memory."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, 2)
