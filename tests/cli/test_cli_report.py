"""What `secateur report` makes of folders that hold no study, several, or part of one (see test_cli_compare too)."""

import shutil

import pytest

from secateur.experiments.presets import preset
from secateur.experiments.store import Store


@pytest.fixture
def begun(tmp_path):
    """A study entered and not worked on."""
    folder, study = tmp_path / "begun", preset("demo")
    Store(folder / "runs.sqlite").add(study.runs())
    (folder / "demo.study.json").write_text(study.model_dump_json())
    return folder


def test_nothing_finished_is_said(begun, secateur):
    code, _, err = secateur("report", begun)
    assert (code, err.startswith("error: StudyError")) == (3, True)


def test_several_studies_in_one_folder(begun, secateur):
    shutil.copy(begun / "demo.study.json", begun / "other.study.json")
    code, _, err = secateur("report", begun)
    assert (code, "choose by --study: demo, other" in err) == (2, True)
    code, _, err = secateur("report", begun, "--study", "othr")
    assert (code, "Did you mean 'other'" in err) == (2, True)


def test_a_study_without_runs(begun, secateur):
    text = (begun / "demo.study.json").read_text().replace('"seeds":[0,1,2]', '"seeds":[7]')
    (begun / "demo.study.json").write_text(text)
    code, _, err = secateur("report", begun)
    assert (code, "holds no run of the study 'demo'" in err) == (3, True)


def test_folders_without_a_study(secateur, tmp_path):
    code, _, err = secateur("report", "nowhere")
    assert (code, "does not exist" in err) == (2, True)
    code, _, err = secateur("report", tmp_path)
    assert (code, "holds no study" in err) == (4, True)
    assert not (tmp_path / "runs.sqlite").exists()


def test_a_damaged_table(begun, secateur):
    (begun / "runs.sqlite").write_text("no database " * 1000)
    code, _, err = secateur("report", begun)
    assert (code, "cannot be used as a run table" in err) == (3, True)
