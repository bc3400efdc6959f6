"""`secateur plan`: what would be cut, as a file that a person may edit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from .options import OUTPUT, Calibration, Classes, Frozen, Input, Json, Kinds, Model, Toward, Weights, option
from .outcome import asked, end, figures, seconds, tables
from .output import console, emit, note, only_json
from .prune import (
    AllocatorSpec,
    BudgetText,
    CriterionSpec,
    DataSpec,
    MethodSpec,
    Power,
    Seed,
    Steps,
    StepsSchedule,
    one_example,
    writable,
)

EPILOG = """Examples
$ secateur plan --model resnet20 --weights W.safetensors --budget macs=0.5 \\
    --out plan.json
$ secateur diff plan.json edited.json
$ secateur apply edited.json --model resnet20 --weights W.safetensors \\
    --out half.safetensors

In the file, each group has one line: the first `keep` units of its `order`
stay. Edit either."""

Out = Annotated[
    Path | None,
    option(
        "--out", "FILE", "Where the plan goes, a .json file; one that is there is replaced. Default: nowhere.", OUTPUT
    ),
]


def plan(
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
    calibration: Calibration = 512,
    classes: Classes = None,
    input: Input = None,
    seed: Seed = 0,
    out: Out = None,
    json: Json = False,
) -> None:
    """Say what `prune` would cut, and write it to a file; nothing is cut.

    The file holds each group's units in order of their scores and how many of them stay; what methods fold or merge is
    in it, too. `apply` makes the pruned model of it, `diff` compares two.
    """
    from . import choice, job

    by = choice.choose(method, criterion, allocator, per_macs)
    allowed = choice.allowance(budget, by)
    choice.check_steps(steps, by, allowed)
    one_example(data, input)
    writable(out, ".json")
    with only_json(json):
        start = time.monotonic()
        subject = (
            model,
            weights,
            classes,
            input,
            frozen,
            job.load_data(data, choice.need(by, job.NO_TRAINING, "none")),
        )
        task = job.Job(
            *subject, by, allowed, calibration, "none", job.NO_TRAINING, seed, kinds, steps, steps_schedule.value
        )
        found = _planned(task, data, out)
    for said in job.remarks(task):
        note(said)
    found |= {"out": out and str(out), "seconds": seconds(start)}
    (emit if json else show)(found)


def _planned(task: Any, data: str | None, out: Path | None) -> dict[str, Any]:
    """The plan and its cost as plain data; the file is written."""
    from ..cost.cost import CostModel
    from ..groups.plan_file import PlanFile
    from ..latency.asked import asked as asked_latency
    from . import job

    graph = job.read(task)
    chosen, scores = job.planned(task, graph)
    cost = CostModel(graph, asked_latency(graph, task.budget, task.method.allocator))
    found = figures(graph, chosen, cost.dense(), cost.at(chosen.widths(graph)))
    kept = chosen.widths(graph)
    about = asked(task, data) | {"cost": {"before": found["before"], "after": found["after"], "of": kept}}
    if out is not None:
        PlanFile.of(graph, chosen, scores, about).write(out)
    return asked(task, data) | found


def show(found: dict[str, Any]) -> None:
    """For a person."""
    out = console()
    tables(found, out)
    end(found, out)
