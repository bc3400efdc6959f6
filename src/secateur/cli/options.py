"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

SPECS = (
    "NAME of ours (resnet20, resnet56, vgg16, digits-resnet, ...; an unknown name lists them), torchvision:NAME, "
    "timm:NAME, hf:FOLDER_OR_CONFIG_JSON, or your own package.module:callable, also from the current folder."
)
SOURCES = "digits (comes with scikit-learn), cifar10:FOLDER, or cifar10 (in $SECATEUR_DATA/cifar10)."
REPAIRS = (
    "Make up for the cut from the calibration images, without labels. fold: the mean of what removed units gave goes "
    "into the layers that read them; recalibrate: batch-norm statistics anew; reconstruct: those layers refitted by "
    "least squares; none."
)
SCHEDULES = "Learning rate over the run: onecycle, cosine, steps or constant."
SUBJECT, CHOICE, TRAINING, OUTPUT = "Model and data", "What to remove", "Training", "Output"


def option(flag: str, metavar: str | None, help: str, panel: str | None = None, **more: Any) -> Any:
    """One option: its flag, the word for its value (None for a flag), its help, and the panel it is shown in."""
    return typer.Option(flag, metavar=metavar, help=help, rich_help_panel=panel, **more)


class Schedule(str, Enum):
    """The schedules of a recipe."""

    CONSTANT, STEPS, COSINE, ONECYCLE = "constant", "steps", "cosine", "onecycle"


class Toward(str, Enum):
    """How what is left falls over the steps of pruning."""

    LINEAR, CUBIC, GEOMETRIC, HALVING = "linear", "cubic", "geometric", "halving"


class Arm(str, Enum):
    """What a study may do after the cut."""

    FINETUNE, SCRATCH_E, SCRATCH_B = "finetune", "scratch-e", "scratch-b"


class Repair(str, Enum):
    """What may be done after the cut without labels."""

    NONE, FOLD, RECALIBRATE, RECONSTRUCT = "none", "fold", "recalibrate", "reconstruct"


def _given(data: str) -> str:
    if not data:
        raise typer.BadParameter(f"give {SOURCES}")
    return data


# Needed, but with a default, since "Missing option" does not say what may be given.
GivenData = Annotated[str, option("--data", "SPEC", f"Needed: {SOURCES}", SUBJECT, callback=_given, show_default=False)]
Model = Annotated[str, option("--model", "SPEC", SPECS, SUBJECT, show_default=False)]
Weights = Annotated[
    Path | None, option("--weights", "FILE", "Its weights, a .safetensors file. Default: random.", SUBJECT)
]
Classes = Annotated[
    int | None,
    option(
        "--classes",
        "N",
        "Outputs of the model. Default: its own, or the classes of --data where given.",
        SUBJECT,
        min=1,
    ),
]
Input = Annotated[
    str | None,
    option(
        "--input",
        "SHAPE",
        "Shape of the example input, batch first: 1,3,224,224; with a type for token ids: 1,16:int64. "
        "Default: what the model is made for, or one image of --data where given.",
        SUBJECT,
    ),
]
Frozen = Annotated[
    list[str] | None,
    option(
        "--frozen",
        "PATTERN",
        "Module or parameter that must stay whole, or a glob such as 'layer1.*'. May be repeated.",
        CHOICE,
    ),
]
Kinds = Annotated[
    str | None,
    option(
        "--kinds",
        "KINDS",
        "Kinds of unit that may be removed, joined by commas: channel, head, neuron, stream, block (the default), "
        "depth (whole residual blocks, for criterion block-influence) and expert.",
        CHOICE,
    ),
]
Json = Annotated[bool, option("--json", None, "Print one JSON document in place of tables.", OUTPUT)]
RepairKind = Annotated[Repair, option("--repair", "HOW", REPAIRS, CHOICE)]
Calibration = Annotated[
    int,
    option(
        "--calibration", "N", "Training images that criteria and --repair look at, in batches of 64.", CHOICE, min=1
    ),
]
BatchSize = Annotated[int, option("--batch-size", "N", "Images a step.", TRAINING, min=1)]
ScheduleName = Annotated[Schedule, option("--schedule", "NAME", SCHEDULES, TRAINING)]
WeightDecay = Annotated[float, option("--weight-decay", "X", "Of SGD.", TRAINING, min=0.0)]
