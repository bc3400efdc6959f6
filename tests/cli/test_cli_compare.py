"""`secateur compare` and `secateur report` on a study of three runs; killed, failed, changed."""

import json
from pathlib import Path

import pytest

from secateur.cli.compare import cores
from secateur.experiments import execute, study
from secateur.experiments.study import store_of

TINY = ("--model", "digits-resnet", "--data", "digits", "--train-epochs", "1", "--finetune-epochs", "1")
TINY += ("--batch-size", "64", "--calibration", "64", "--workers", "1")
TWO = (*TINY, "--method", "l1", "--method", "taylor:per_macs=0.5")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished study, made once by the command itself."""
    from secateur.cli import main

    folder = tmp_path_factory.mktemp("study") / "tiny"
    with pytest.raises(SystemExit) as end:
        main(["compare", *TWO, "--out", str(folder)])
    assert not end.value.code
    return folder


@pytest.fixture
def no_work(monkeypatch):
    def fails(*_):
        raise AssertionError("a run was done again")

    monkeypatch.setattr(study, "execute", fails)


def test_the_same_command_again_does_nothing_twice(done, no_work, secateur):
    code, out, err = secateur("compare", *TWO, "--out", done)
    assert code == 0
    assert "taylor(per_macs=0.5)" in out
    assert f"report: {done / 'report.html'}" in out
    assert err == "3 of 3 runs are done already\n"
    assert "<html" in (done / "report.html").read_text()


def test_json_is_all_there_is_on_standard_output(done, no_work, secateur):
    code, out, err = secateur("compare", *TWO, "--out", done, "--json")
    found = json.loads(out)
    assert (code, found["runs"], found["missing"]) == (0, 3, [])
    assert [line["method"] for line in found["lines"]] == ["l1", "taylor(per_macs=0.5)"]
    assert "report.html" in err


def test_a_stored_study_is_given_by_its_file(done, no_work, secateur):
    assert secateur("compare", "--study", done / "tiny.study.json", "--out", done).code == 0
    command = (done / "report.html").read_text()
    assert "secateur compare --study" in command


def test_prune_gives_the_figures_of_the_study(done, secateur):
    rows = {row.run.arm: row for row in store_of(done).rows() if row.run.method is None or row.run.method.name == "l1"}
    weights = execute._weights(rows["dense"].run, done)
    words = ("--weights", weights, "--data", "digits", "--budget", "macs=0.5", "--method", "l1", "--finetune", "1")
    found = json.loads(
        secateur("prune", "--model", "digits-resnet", *words, "--batch-size", "64", "--calibration", "64", "--json").out
    )
    result = rows["finetune"].result
    assert [[w["group"], w["units"], w["kept"]] for w in found["widths"]] == result["widths"]
    expected = [result[key] for key in ("accuracy_dense", "accuracy_at_cut", "accuracy")]
    assert [found["accuracy"][key] for key in ("dense", "at_cut", "finetuned")] == expected


def test_report_of_a_stored_study(done, no_work, secateur):
    (done / "report.html").unlink()
    code, out, err = secateur("report", done)
    assert (code, err) == (0, "")
    assert "3 of 3 runs done" in out
    assert (done / "report.html").is_file()
    code, out, _ = secateur("report", done, "--json", "--out", "page.html")
    assert (code, json.loads(out)["runs"]) == (0, 3)
    assert "<html" in Path("page.html").read_text()


def test_runs_that_fail_are_named_and_the_rest_is_done(secateur):
    words = ("--method", "l1", "--budget", "macs=0.5", "--budget", "macs=1e-6", "--out", "some")
    code, out, err = secateur("compare", *TINY, *words, "--train-epochs", "0", "--finetune-epochs", "0", "--json")
    found = json.loads(out)
    assert code == 3
    assert [m["label"] for m in found["missing"]] == ["digits-resnet l1 macs=1e-6 finetune seed 0"]
    assert "failed, BudgetUnreachable: budget macs=1e-06 is below the reachable minimum" in err
    assert err.strip().endswith("StudyError: 1 of 3 runs failed, as said above; the same command tries them again")
    code, out, _ = secateur("report", "some")
    assert (code, "1 failed" in out) == (0, True)


def test_ctrl_c_says_how_to_go_on(secateur, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "execute", interrupted)
    code, out, err = secateur("compare", *TWO, "--out", "mine")
    assert (code, out) == (130, "")
    assert "what is done lies in mine, and the same command goes on from there" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "what is to be compared?"),
        (("--model", "digits-resnet"), 2, "--data, --method missing"),
        (("--preset", "dmo"), 2, "Did you mean 'demo'"),
        (("--preset", "demo", "--seed", "3"), 2, "--seed: the study says this itself"),
        (("--preset", "demo", "--study", "a.json"), 2, "leave one of --preset and --study out"),
        (("--study", "none.json"), 4, "none.json cannot be read"),
        ((*TINY, "--method", "l9"), 2, "no method 'l9'"),
        ((*TINY, "--method", "l1:colour=red"), 2, "called 'colour'"),
        ((*TINY, "--method", "l1", "--arm", "finetun"), 2, "finetun"),
        ((*TINY, "--method", "l1", "--budget", "macs"), 2, "'macs' is no budget"),
        ((*TINY, "--method", "l1", "--frozen", "layer9"), 2, "'layer9'"),
        ((*TINY, "--method", "l1", "--model", "resnet20"), 2, "input of shape [1, 1, 8, 8]"),
        ((*TINY, "--method", "l1", "--train-lr", "0"), 2, "lr = 0.0"),
        ((*TINY, "--method", "l1", "--weights", "no.safetensors"), 4, "no weights file"),
        ((*TINY, "--method", "l1", "--workers", "0"), 2, "--workers"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(words, code, message, secateur):
    got, out, err = secateur("compare", *words, "--out", "new")
    assert (got, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert not Path("new").exists()


def test_a_folder_that_is_a_file(secateur):
    Path("taken").write_text("")
    code, _, err = secateur("compare", *TWO, "--out", "taken")
    assert (code, "cannot be made" in err) == (4, True)


def test_default_workers():
    assert cores() in (1, 2)
