"""Studies: every run once, killed at any moment, by one worker or several; failures told, never dropped."""

import os
import random
import signal
import sqlite3
import time

import pytest

from secateur.errors import BadOption, StudyError, UnknownName
from secateur.experiments.config import MethodSpec, Run, Setting, Study
from secateur.experiments.data import load
from secateur.experiments.store import Store, _alive
from secateur.experiments.study import compare, store_of
from secateur.training import Recipe

ONE = Recipe(epochs=1, lr=0.05, batch_size=256)


def tiny(methods=("l2", "random"), seeds=(0,), arms=("finetune", "scratch-e"), budgets=("macs=0.5",), **setting):
    setting = {"data": "digits", "train": ONE, "finetune": ONE, "calibration": 64} | setting
    return Study(
        name="tiny",
        models=("digits-resnet",),
        methods=tuple(MethodSpec.parse(m) for m in methods),
        budgets=budgets,
        seeds=seeds,
        arms=arms,
        setting=Setting(**setting),
    )


def outcomes(rows):
    return {row.run.key: (row.status, row.result) for row in rows}


def killed_until_it_ends(study, folder, generator, kills):
    """Start the study again and again, killed after a random while, until it ends; how often it was killed."""
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            compare(study, folder)
            os._exit(0)
        deadline = time.monotonic() + (generator.uniform(0.02, 0.4) if killed < kills else 60)
        ended = (0, 0)
        while ended[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
            ended = os.waitpid(child, os.WNOHANG)
        if ended[0]:
            assert os.waitstatus_to_exitcode(ended[1]) == 0
            return killed
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1


def test_killed_at_twenty_random_moments_it_ends_as_if_never_killed(tmp_path):
    study = tiny(seeds=(0, 1))
    load("digits")  # import what the children would import each time
    whole = compare(study, tmp_path / "whole")
    assert {row.status for row in whole} == {"done"}
    generator, left, rounds = random.Random(0), 20, 0
    while (
        left > 0
    ):  # on a fast machine a study ends before it has been killed twenty times: then once more, from nothing
        rounds += 1
        folder = tmp_path / f"killed-{rounds}"
        left -= killed_until_it_ends(study, folder, generator, left)
        again = compare(study, folder)
        assert outcomes(again) == outcomes(whole)
        assert len(again) == len(study.runs()) == len({run.key for run in study.runs()})


def test_two_workers_share_the_runs_and_give_what_one_gives(tmp_path):
    study = tiny(methods=("l2",), seeds=(0, 1))
    assert outcomes(compare(study, tmp_path / "two", workers=2)) == outcomes(compare(study, tmp_path / "one"))


def test_a_finished_study_is_not_run_again(tmp_path):
    study = tiny(methods=("l2",), arms=("finetune",))
    first = compare(study, tmp_path)
    assert compare(study, tmp_path) == first  # seconds included


def test_a_method_that_cannot_run_fails_by_name_and_the_others_go_on(tmp_path):
    rows = compare(tiny(methods=("li2017", "l2"), arms=("finetune",)), tmp_path)
    failed = [row for row in rows if row.status == "failed"]
    assert [row.run.method.name for row in failed] == ["li2017"]
    assert failed[0].error.startswith("PlanError: configuration 'resnet56-a' is for 55 convolutions")
    assert sum(row.status == "done" for row in rows) == 2


def test_when_the_dense_run_fails_those_that_need_it_fail_too(tmp_path):
    rows = compare(tiny(methods=("l2",), weights=str(tmp_path / "none.safetensors")), tmp_path)
    assert {row.status for row in rows} == {"failed"}
    assert all("none.safetensors" in row.error for row in rows)


def test_a_budget_that_is_met_already_is_a_failed_run_that_says_so(tmp_path):
    rows = compare(tiny(methods=("l2",), arms=("finetune",), budgets=("macs=1",)), tmp_path)
    assert "NothingToDo" in next(row.error for row in rows if row.run.arm == "finetune")


def test_the_key_is_a_function_of_the_whole_configuration():
    run = tiny().runs()[-1]
    assert run.key == Run.model_validate_json(run.model_dump_json()).key
    others = [
        run.model_copy(update={"seed": 5}),
        run.model_copy(update={"budget": "macs=0.4"}),
        run.model_copy(update={"setting": run.setting.model_copy(update={"repair": "fold"})}),
    ]
    assert len({run.key, *(Run.model_validate(o.model_dump()).key for o in others)}) == 4


def test_the_name_of_a_run_is_pinned():
    # A new default must not silently give old results a new configuration: change this only with a reason.
    run = Run(model="digits-resnet", arm="dense", seed=0, setting=tiny().setting)
    assert run.key == "48c171f7e5808ebe"


def test_a_method_that_works_while_training_has_a_dense_run_of_its_own():
    runs = tiny(methods=("slimming", "l2"), arms=("finetune",)).runs()
    dense = [run for run in runs if run.arm == "dense"]
    assert [run.method.name if run.method else None for run in dense] == [None, "slimming"]


def test_scratch_b_trains_as_many_epochs_longer_as_the_macs_allow(tmp_path):
    setting = {"train": Recipe(epochs=2, lr=0.05, batch_size=256)}
    rows = compare(tiny(methods=("l1",), arms=("scratch-e", "scratch-b"), **setting), tmp_path)
    e, b = (row.result for row in rows if row.run.arm != "dense")
    assert e["epochs"] == 2
    assert b["epochs"] == int(2 * b["before"]["macs"] / b["after"]["macs"])


def test_a_claim_of_a_dead_worker_is_free_and_that_of_a_living_one_is_not(tmp_path):
    store = Store(tmp_path / "runs.sqlite")
    run = tiny().runs()[0]
    store.add([run])
    assert store.claim({run.key}) == run
    assert store.claim({run.key}) is None
    with sqlite3.connect(store.path) as db:
        # The same process number, but born at another time.
        db.execute("UPDATE runs SET owner = ?", (store.owner.rsplit(":", 1)[0] + ":1",))
    assert store.claim({run.key}) == run


def test_a_worker_on_another_machine_counts_as_dead_when_silent():
    assert _alive("elsewhere:1:2", time.time())
    assert not _alive("elsewhere:1:2", time.time() - 3600)


def test_a_result_of_a_run_that_was_taken_over_is_refused(tmp_path):
    store, run = Store(tmp_path / "runs.sqlite"), tiny().runs()[0]
    store.add([run])
    store.claim({run.key})
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE runs SET owner = 'somebody:1:1'")
    with pytest.raises(StudyError, match="taken over"):
        store.finish(run, {}, 1.0)


def test_bad_studies_are_refused_by_name(tmp_path):
    with pytest.raises(UnknownName, match=r"option of method 'taylor' called 'per_mac'.*'per_macs'"):
        tiny(methods=("taylor:per_mac=1",))
    with pytest.raises(BadOption, match="per_macs='much'"):
        tiny(methods=("taylor:per_macs=much",))
    with pytest.raises(UnknownName, match="'taylor'"):
        tiny(methods=("tailor",))
    with pytest.raises(StudyError, match="workers=0"):
        compare(tiny(), tmp_path, workers=0)
    with pytest.raises(StudyError, match="seeds"):
        Study.read(tiny().model_dump_json().replace('"seeds":[0]', '"seeds":[]'))
    (tmp_path / "runs.sqlite").write_text("this is no database" * 100)
    with pytest.raises(StudyError, match="cannot be used as a run table"):
        store_of(tmp_path)
