"""How the numbers were made: what the runs share, and what they ran on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone

from ..experiments.config import Run
from ..experiments.store import Row
from ..training.recipe import Recipe


def shared(rows: list[Row]) -> dict[str, str]:
    """What was run: names and values, in words."""
    runs = [row.run for row in rows]
    setting = runs[0].setting
    facts = {
        "Models": _names(r.model for r in runs),
        "Data": setting.data,
        "Pretrained weights": setting.weights or "none; dense models are trained here",
        "Methods": _names(r.method.label for r in runs if r.method and r.arm != "dense"),
        "Budgets": _names(r.budget for r in runs if r.budget),
        "Arms": _names(r.arm for r in runs),
        "Seeds": _names(str(r.seed) for r in runs),
        "Training images for criteria and repair": str(setting.calibration),
        "Repair after the cut": setting.repair,
        "Frozen": _names(setting.frozen),
        "Recipe of dense and scratch training": recipe(setting.train),
        "Recipe of fine-tuning": recipe(setting.finetune),
    }
    return {name: value for name, value in facts.items() if value}


def _names(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def recipe(made: Recipe) -> str:
    """`10 epochs, sgd, lr 0.1, ...`: every field that this optimizer and schedule look at."""
    said = [f"{made.epochs} epochs", f"batch size {made.batch_size}", made.optimizer, f"lr {made.lr:g}"]
    if made.schedule != "onecycle":
        said.append(f"momentum {made.momentum:g}")
    said += ["nesterov"] if made.nesterov else []
    said += [f"weight decay {made.weight_decay:g}", f"schedule {made.schedule}"]
    if made.schedule == "steps":
        said.append(f"times {made.gamma:g} after {', '.join(f'{m:g}' for m in made.milestones)} of the run")
    return ", ".join([*said, *([f"warm-up over {made.warmup:g} of the run"] if made.warmup else [])])


def environments(rows: list[Row]) -> list[tuple[str, dict[str, str]]]:
    """What the runs ran on, each different machine or version once, with how many runs it did."""
    found = [row.result.get("environment", {}) for row in rows if row.result is not None]
    distinct = {json.dumps(e, sort_keys=True): e for e in found}
    return [(f"{found.count(e)} of {len(found)} runs", e) for e in distinct.values()]


def written() -> str:
    """When this page is being written."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def title_of(runs: list[Run]) -> str:
    """`Pruning digits-resnet on digits`."""
    return f"Pruning {_names(r.model for r in runs)} on {runs[0].setting.data}"
