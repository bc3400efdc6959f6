"""What `oracle` and `sensitivity` share: their subject, their folder, a bar of progress. Imports torch."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from ..criteria.base import CRITERIA, Criterion
from ..errors import CheckpointError
from ..experiments.data import load
from ..experiments.environment import environment
from ..groups.graph import Graph
from ..ledger import Progress as Told
from ..report.pages import replace
from ..training.seeds import child_seed
from .inputs import graph_of, made, model_of
from .job import BATCH
from .output import errors, note

ALL = "all"
MINUTE = 60.0
LONG = 30 * 24 * 3600.0  # seconds of history for the time left


@dataclass(frozen=True, eq=False)
class Subject:
    """A model read once, and the training images that it is looked at with; never test images."""

    graph: Graph
    batches: list[tuple[Tensor, Tensor]]
    facts: dict[str, Any]  # where all this comes from, as plain data


def subject(
    model: str,
    weights: Path | None,
    data: str,
    classes: int | None,
    frozen: list[str] | None,
    kinds: str | None,
    calibration: int,
    seed: int,
) -> Subject:
    """From what was typed; the images are those that `secateur prune` would score with. Raises what the steps raise."""
    held = load(data)
    net = model_of(model, classes or held.classes, weights, seed)
    graph = graph_of(net, held.example(), frozen, kinds)
    loader = held.loader("train", batch_size=BATCH, seed=child_seed(seed, "calibration"))
    batches = list(islice(loader, -(-calibration // BATCH)))
    facts = {"model": model, "weights": weights and str(weights), "data": data, "seed": seed}
    return Subject(graph, batches, {**facts, "images": sum(len(y) for _, y in batches)})


def criteria(texts: list[str]) -> tuple[dict[str, Criterion], bool]:
    """By the specs typed, each `NAME` or `NAME:OPTION=VALUE,...`, joined by commas; and whether `all` are asked for.

    Raises what `made` raises, and a usage error for a spec that is given twice.
    """
    specs: list[str] = []
    for part in (p.strip() for text in texts for p in text.split(",")):
        if specs and "=" in part and ":" not in part:  # one more option of the spec before it
            specs[-1] += f",{part}"
        else:
            specs += sorted(CRITERIA.all()) if part == ALL else [part]
    twice = next((s for s in specs if specs.count(s) > 1), None)
    if twice is not None:
        raise typer.BadParameter(f"{twice!r} is given twice", param_hint="--criteria")
    every = any(part.strip() == ALL for text in texts for part in text.split(","))
    return {spec: made(CRITERIA, spec, "--criteria") for spec in specs}, every


def folder(out: Path) -> Path:
    """The folder of the results, made if need be. Raises `CheckpointError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the folder {out} cannot be made: {error}") from error
    return out


@contextmanager
def counting(what: str, out: Path) -> Iterator[Told]:
    """Gives `progress(done, total)`: a bar in a terminal, else a line every minute.

    Ctrl-C ends with code 130 and says how to go on.
    """
    console, told = errors(), time.monotonic()
    columns = (TextColumn(what), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, speed_estimate_period=LONG, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def progress(done: int, total: int) -> None:
            nonlocal told
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - told >= MINUTE:
                told = time.monotonic()
                console.print(f"{done} of {total} {what}")

        try:
            yield progress
        except KeyboardInterrupt:
            note(f"interrupted; what is measured lies in {out}, and the same command goes on from there")
            raise typer.Exit(130) from None


def typed(context: typer.Context) -> str:
    """The command as it was given; options that were left out stay out."""
    words = ["secateur", context.info_name or ""]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            value = context.params[parameter.name or ""]
            given = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
            words += [word for v in given for word in (parameter.opts[0], str(v))] or [parameter.opts[0]]
    return shlex.join(words)


def finished(document: dict[str, Any], out: Path, name: str, seconds: float) -> dict[str, Any]:
    """What came out with what it ran on, also stored in the folder. Raises `CheckpointError`."""
    whole = {**document, "environment": environment(), "seconds": round(seconds, 3)}
    replace(out / f"{name}.json", json.dumps(whole, indent=2, allow_nan=False))
    return whole
