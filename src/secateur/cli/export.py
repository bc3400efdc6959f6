"""`secateur export`: a model as ONNX, OpenVINO's own files, or a program of torch.export; checked, then written."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import OUTPUT, SUBJECT, Classes, Input, Json, Model, option
from .output import console, doing, emit, only_json

EPILOG = """Examples
$ secateur export half.safetensors --model resnet20 --to onnx --out half.onnx
$ secateur export half.safetensors --model torchvision:resnet50 \\
    --to openvino --out half.xml --dynamic-batch
$ secateur export dense.safetensors --model resnet20 --batch 8 \\
    --to torch --out dense.pt2

Exit code 3: the exporter refuses the model, or the exported model does
not say what the model says. Nothing is written then."""


class Format(str, Enum):
    """What can be written."""

    ONNX, OPENVINO, TORCH = "onnx", "openvino", "torch"


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Weights: what `secateur prune` wrote, or those of the dense model.", show_default=False
    ),
]
To = Annotated[
    Format,
    option("--to", "FORMAT", "onnx, openvino, or torch (a program of torch.export).", OUTPUT, show_default=False),
]
Out = Annotated[
    Path,
    option(
        "--out",
        "FILE",
        "Where to: .onnx, .xml (its weights go beside it, to .bin) or .pt2.",
        OUTPUT,
        show_default=False,
    ),
]
Batch = Annotated[
    int | None, option("--batch", "N", "Batch size. Default: that of the example input, often 1.", SUBJECT, min=1)
]
Dynamic = Annotated[bool, option("--dynamic-batch", None, "Leave the batch size open.", OUTPUT)]


def export(
    file: File,
    model: Model,
    to: To,
    out: Out,
    classes: Classes = None,
    input: Input = None,
    batch: Batch = None,
    dynamic_batch: Dynamic = False,
    json: Json = False,
) -> None:
    """Write a model as a file that other software runs, and check that it says the same.

    What is to be written is first run on random inputs, and must agree with torch within 1e-4 of the largest output.
    """
    from ..engines.batch import with_batch
    from ..integrations.export import export as write
    from .inputs import example_of, model_of_any

    with only_json(json):
        net = model_of_any(model, classes, file)
        example = example_of(model, input)
        example = example if batch is None else with_batch(example, batch)
        with doing(f"exporting to {to.value}"):
            made = write(net, example, out, to.value, dynamic_batch=dynamic_batch)
    found: dict[str, Any] = {
        "model": model,
        "weights": str(file),
        "to": to.value,
        "files": [str(f) for f in made.files],
    }
    found |= {"bytes": made.bytes, "weights_bytes": file.stat().st_size, "dynamic_batch": dynamic_batch}
    found |= {"difference": made.difference, "scale": made.scale}
    (emit if json else show)(found)


def show(found: dict[str, Any]) -> None:
    """The same for a person."""
    from ..cost.cost import short
    from ..integrations.export import TOLERANCE

    out = console()
    sizes = f"{short(found['bytes'])}B, from {short(found['weights_bytes'])}B in {found['weights']}"
    out.print(f"{' and '.join(found['files'])}: {sizes}", soft_wrap=True)
    limits = f"{found['difference']:.1e} of {found['scale']:.3g}, {TOLERANCE:.0e} allowed"
    out.print(f"check: largest difference from torch: {limits}", soft_wrap=True)
