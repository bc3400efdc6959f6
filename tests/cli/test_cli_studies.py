"""Studies from options, presets and files, and back."""

from pathlib import Path

import pytest
import typer

from secateur.cli import studies
from secateur.errors import CheckpointError, StudyError
from secateur.experiments.presets import preset

OPTIONS = {"model": ["digits-resnet"], "data": "digits", "method": ["l1", "taylor:per_macs=0.5"]}


def test_defaults_are_those_that_help_states():
    study = studies.study_of(None, None, OPTIONS, Path("runs/mine"))
    assert (study.name, study.budgets, study.seeds, study.arms) == ("mine", ("macs=0.5",), (0,), ("finetune",))
    assert [m.label for m in study.methods] == ["l1", "taylor(per_macs=0.5)"]
    setting = study.setting
    assert (setting.calibration, setting.repair, setting.frozen, setting.weights) == (512, "none", (), None)
    shared = {"batch_size": 128, "weight_decay": 5e-4, "schedule": "onecycle", "nesterov": True}
    assert setting.train.model_dump().items() >= {"epochs": 10, "lr": 0.1, **shared}.items()
    assert setting.finetune.model_dump().items() >= {"epochs": 4, "lr": 0.02, **shared}.items()


def test_what_is_given_counts_zero_and_all():
    given = {"budget": ["macs=0.5", "params=1e4"], "seed": [0, 3], "arm": ["finetune", "scratch-b"], "train_epochs": 0}
    given |= {"weights": Path("W.safetensors"), "repair": "fold", "frozen": ["conv1"], "weight_decay": 0.0}
    study = studies.study_of(None, None, {**OPTIONS, **given, "schedule": None, "finetune_lr": None}, Path("x"))
    assert (study.budgets, study.seeds, study.arms) == (("macs=0.5", "params=1e4"), (0, 3), ("finetune", "scratch-b"))
    setting = study.setting
    assert (setting.weights, setting.repair, setting.frozen) == ("W.safetensors", "fold", ("conv1",))
    assert (setting.train.epochs, setting.train.weight_decay, setting.finetune.lr) == (0, 0.0, 0.02)


def test_presets_and_files_are_taken_whole(tmp_path):
    nothing = dict.fromkeys([*OPTIONS, "seed"])
    demo = studies.study_of("demo", None, nothing, tmp_path)
    assert demo == preset("demo")
    path = tmp_path / "demo.study.json"
    path.write_text(demo.model_dump_json())
    assert studies.study_of(None, path, nothing, tmp_path) == demo
    with pytest.raises(typer.BadParameter, match=f"edit {path}"):
        studies.study_of(None, path, {**nothing, "seed": [1]}, tmp_path)


def test_files_that_are_no_study(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "a"}')
    with pytest.raises(StudyError, match="models"):
        studies.read(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "b.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            studies.read(path)


def test_the_command_in_the_report_can_be_typed():
    demo = preset("demo")
    assert studies.again(demo, "demo", Path("runs/demo")) == "secateur compare --preset demo --out runs/demo"
    spaced = studies.again(demo, None, Path("my runs"))
    assert spaced == "secateur compare --study 'my runs/demo.study.json' --out 'my runs'"
