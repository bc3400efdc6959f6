"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

SPECS = (
    "NAME of ours (resnet20, resnet56, vgg16, digits-resnet, ...; an unknown name lists them), torchvision:NAME, "
    "timm:NAME, hf:FOLDER_OR_CONFIG_JSON, or your own package.module:callable, also from the current folder."
)
SOURCES = "digits (comes with scikit-learn), cifar10:FOLDER, or cifar10 (in $SECATEUR_DATA/cifar10)."

Schedule = Literal["constant", "steps", "cosine", "onecycle"]
Arm = Literal["finetune", "scratch-e", "scratch-b"]

Model = Annotated[str, typer.Option("--model", metavar="SPEC", help=SPECS, show_default=False)]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Weights in a .safetensors file. Without it they are random."),
]
Classes = Annotated[
    int | None,
    typer.Option("--classes", metavar="N", min=1, help="Outputs of the model. Default: of the data, else the model's own."),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="Shape of the example input, batch first: 1,3,224,224; with a type for token ids: 1,16:int64. "
        "Default: an image of --data, else what the model is made for.",
    ),
]
Frozen = Annotated[
    list[str] | None,
    typer.Option(
        "--frozen",
        metavar="PATTERN",
        help="Module or parameter that must stay whole, or a glob such as 'layer1.*'. May be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document in place of tables.")]
Recalibrate = Annotated[
    bool, typer.Option("--recalibrate", help="Measure batch-norm statistics anew after the cut, on the calibration images.")
]
Calibration = Annotated[
    int,
    typer.Option("--calibration", metavar="N", min=1, help="Training images that criteria look at, in batches of 64."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Images a training step.")]
ScheduleName = Annotated[Schedule, typer.Option("--schedule", help="Learning rate over the run.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", metavar="X", min=0.0, help="Weight decay of SGD.")]
