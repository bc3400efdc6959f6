"""Studies for `compare` and `report`: from a preset, a file or options, and back from a folder. Imports torch."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import typer

from ..cost.budget import Budget
from ..errors import CheckpointError, StudyError, UnknownName
from ..experiments.config import MethodSpec, Setting, Study
from ..experiments.data import load
from ..experiments.presets import preset
from ..experiments.store import Row
from ..experiments.study import store_of
from ..methods.base import METHODS
from .inputs import graph_of, made, model_of, recipe_of

SUFFIX = ".study.json"
DEFAULTS: dict[str, Any] = {
    "budget": ["macs=0.5"],
    "seed": [0],
    "arm": ["finetune"],
    "train_epochs": 10,
    "train_lr": 0.1,
    "finetune_epochs": 4,
    "finetune_lr": 0.02,
    "batch_size": 128,
    "weight_decay": 5e-4,
    "schedule": "onecycle",
    "calibration": 512,
    "repair": "none",
    "frozen": [],
    "weights": None,
}


def study_of(name: str | None, file: Path | None, options: dict[str, Any], out: Path) -> Study:
    """The study asked for in one of three ways; `options` has None where an option was not given.

    Raises `UnknownName`, `BadBudget`, `StudyError`, and a usage error for options that clash or lack.
    """
    given = {key: value for key, value in options.items() if value not in (None, [])}
    if name is not None and file is not None:
        raise typer.BadParameter("leave one of --preset and --study out", param_hint="--study")
    if (name or file) and given:
        flag = f"--{next(iter(given)).replace('_', '-')}"
        change = f"edit {file}" if file else f"edit a copy of the {out / f'{name}{SUFFIX}'} that it writes"
        raise typer.BadParameter(f"the study says this itself; to change it, {change}", param_hint=flag)
    if name is not None:
        return preset(name)
    if file is not None:
        return read(file)
    lacking = [f"--{key}" for key in ("model", "data", "method") if key not in given]
    if lacking:
        ways = "--preset demo, or --study FILE, or --model, --data and --method"
        raise typer.BadParameter(f"what is to be compared? Give {ways} ({', '.join(lacking)} missing)")
    return build(out.resolve().name or "study", {**DEFAULTS, **given})


def build(name: str, asked: dict[str, Any]) -> Study:
    """A study from options; both recipes share batch size, weight decay and schedule."""
    for method in asked["method"]:
        made(METHODS, method, "--method")
    for budget in asked["budget"]:
        Budget.parse(budget)
    shared = {key: asked[key] for key in ("batch_size", "weight_decay", "schedule")}
    setting = Setting(
        data=asked["data"],
        weights=asked["weights"] and str(asked["weights"]),
        train=recipe_of(asked["train_epochs"], asked["train_lr"], **shared),
        finetune=recipe_of(asked["finetune_epochs"], asked["finetune_lr"], **shared),
        calibration=asked["calibration"],
        repair=asked["repair"],
        frozen=tuple(asked["frozen"]),
    )
    return Study(
        name=name,
        models=tuple(asked["model"]),
        methods=tuple(MethodSpec.parse(m) for m in asked["method"]),
        budgets=tuple(asked["budget"]),
        seeds=tuple(asked["seed"]),
        arms=tuple(asked["arm"]),
        setting=setting,
    )


def read(path: Path) -> Study:
    """A study from its JSON file. Raises `CheckpointError`, and `StudyError` for a field that is wrong."""
    try:
        return Study.read(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def check(study: Study) -> None:
    """Refuse names, weights, data and shapes that do not fit before any run starts. Raises what the steps raise."""
    data = load(study.setting.data)
    for spec in study.models:
        graph_of(model_of(spec, data.classes, study.setting.weights), data.example(), study.setting.frozen)


def stored(folder: Path, name: str | None) -> tuple[Study, list[Row]]:
    """The study of a folder and its rows, as far as they are. Raises `CheckpointError` and `UnknownName`."""
    files = {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}
    if not files or not (folder / "runs.sqlite").is_file():  # opening a run table would make it
        raise CheckpointError(
            f"{folder} holds no study (runs.sqlite and NAME{SUFFIX}); `secateur compare --out` makes one"
        )
    if name is None and len(files) > 1:
        raise typer.BadParameter(
            f"{folder} holds several studies; choose by --study: {', '.join(files)}", param_hint="DIR"
        )
    chosen = name or next(iter(files))
    if chosen not in files:
        raise UnknownName("study in this folder", chosen, files)
    study = read(files[chosen])
    rows = store_of(folder).rows({run.key for run in study.runs()})
    if not rows:
        raise StudyError(f"{folder} holds no run of the study {chosen!r}; start it by `secateur compare`")
    return study, rows


def again(study: Study, name: str | None, folder: Path) -> str:
    """A command that makes the same rows, for the report."""
    source = f"--preset {name}" if name else f"--study {quote(str(folder / f'{study.name}{SUFFIX}'))}"
    return f"secateur compare {source} --out {quote(str(folder))}"
