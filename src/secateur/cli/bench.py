"""`secateur bench`: dense against pruned on this machine, measured in turn, with spread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import OUTPUT, Classes, Input, Json, Model, Weights, option
from .output import console, doing, emit, only_json, plain_table, row, whole

if TYPE_CHECKING:  # this imports torch
    from ..engines.timing import Samples
    from ..experiments.bench import Cell

EPILOG = """Examples
$ secateur bench --model resnet20 --pruned half.safetensors
$ secateur bench --model torchvision:resnet50 --pruned half.safetensors \\
    --pruned aware.safetensors --engine onnxruntime,eager --threads 1,2 \\
    --batch 1,8 --rounds 25

Dense and pruned take turns, so that what else the machine does slows both
of them. In brackets are the quartiles: half of what was measured lies
between them. A speed-up whose quartiles hold 1 is none."""
WHAT = "What is measured"

PrunedFiles = Annotated[
    list[Path],
    option("--pruned", "FILE", "What `secateur prune` wrote. May be repeated.", WHAT, show_default=False),
]
Engines = Annotated[
    str, option("--engine", "NAMES", "eager, compile, onnxruntime, openvino; several joined by commas.", WHAT)
]
Threads = Annotated[str, option("--threads", "NUMBERS", "Threads that a model may use, such as 1,2.", WHAT)]
Batches = Annotated[str, option("--batch", "NUMBERS", "Batch sizes, such as 1,8.", WHAT)]
Rounds = Annotated[int, option("--rounds", "N", "Rounds in which every model runs once.", OUTPUT, min=3)]


def bench(
    model: Model,
    pruned: PrunedFiles,
    weights: Weights = None,
    classes: Classes = None,
    input: Input = None,
    engine: Engines = "onnxruntime",
    threads: Threads = "1",
    batch: Batches = "1",
    rounds: Rounds = 15,
    json: Json = False,
) -> None:
    """Measure whether pruned models are faster here, and how much of what their MACs suggest they reach."""
    from ..experiments import bench as measuring
    from ..experiments.environment import environment
    from .inputs import example_of, model_of, model_of_any

    counts, sizes = numbers(threads, "--threads"), numbers(batch, "--batch")
    with only_json(json):
        dense = model_of(model, classes, weights)
        nets = {str(file): model_of_any(model, classes, file) for file in pruned}
        with doing("measuring"):
            cells = measuring.bench(
                dense,
                nets,
                example_of(model, input),
                engines=words(engine),
                threads=counts,
                batches=sizes,
                rounds=rounds,
            )
    if json:
        about = {"model": model, "weights": weights and str(weights), "rounds": rounds}
        emit(about | {"cells": [cell.as_dict() for cell in cells], "environment": environment()})
    else:
        show(cells)


def words(text: str) -> list[str]:
    """`a,b` as a list, each once."""
    return list(dict.fromkeys(word for word in (w.strip() for w in text.split(",")) if word))


def numbers(text: str, flag: str) -> list[int]:
    """`1,8` as a list; a usage error where it is none."""
    found = words(text)
    if not found or not all(word.isdigit() and int(word) > 0 for word in found):
        raise typer.BadParameter(f"{text!r} is no list of whole numbers from 1 up; write 1, or 1,8", param_hint=flag)
    return [int(word) for word in found]


def show(cells: list[Cell]) -> None:
    """A table for each pruned file, and a sentence for each cell that falls short."""
    out = console()
    figures = ("threads", "batch", "dense ms", "pruned ms", "speed-up", "MACs", "of MACs")
    for name in dict.fromkeys(cell.pruned for cell in cells):
        table = plain_table("engine", *figures, numbers=figures, title=name)
        held = [cell for cell in cells if cell.pruned == name]
        whole(table, (cell.engine for cell in held), out)
        for column in table.columns:
            if column.header in figures[2:5]:  # quartiles may go to a line of their own, so that no column is cut off
                column.no_wrap = False
        for cell in held:
            times = (spread(cell.dense_ms), spread(cell.pruned_ms), spread(cell.speedup))
            row(table, cell.engine, cell.threads, cell.batch, *times, f"{cell.macs:.2f}", f"{cell.realised:.2f}")
        out.print(table)
        for said in map(sentence, held):
            if said:
                out.print(said, soft_wrap=True)


def spread(samples: Samples) -> str:
    """The median, and the quartiles in brackets."""
    middle, low, high = (f"{x:.0f}" if x >= 1000 else f"{x:.3g}" for x in (samples.median, *samples.spread))
    return f"{middle} ({low}-{high})"


def sentence(cell: Cell) -> str | None:
    """What a person should not overlook, or None."""
    at = f"{cell.engine}, threads {cell.threads}, batch {cell.batch}"
    if cell.verdict == "slower":
        return f"{at}: SLOWER than dense here"
    if cell.verdict == "same":
        return f"{at}: not faster than dense here"
    if cell.verdict == "less":
        return f"{at}: faster, but {cell.speedup.median:.2f} times where the MACs suggest {cell.macs:.2f}"
    return None
