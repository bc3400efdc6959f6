"""A study at work, told on standard error."""

import pytest

from secateur.cli.live import live
from secateur.experiments.presets import preset
from secateur.experiments.store import Row

RUNS = preset("demo").runs()[:3]


def rows(*statuses):
    made = []
    for run, status in zip(RUNS, statuses, strict=True):
        result = {"accuracy": 0.5} if status == "done" else None
        error = "Traceback\n  somewhere\nKeyError: 'why'" if status == "failed" else None
        made.append(Row(run, status, result, error, 2.0))
    return made


def tell(*reports, before=()):
    with live(3, before) as report:
        for statuses in reports:
            report(rows(*statuses))


def test_each_run_that_ends_is_told_once(capsys):
    tell(["running", "pending", "pending"], ["done", "running", "pending"], ["done", "running", "pending"])
    out, err = capsys.readouterr()
    assert (out, err) == ("", "1/3 digits-resnet dense seed 0: 50.00 %, 2 s\n")


def test_two_that_end_together_are_counted_apart(capsys):
    tell(["running", "running", "pending"], ["done", "failed", "running"])
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("1/3")
    assert second == "2/3 digits-resnet dense seed 1: failed, KeyError: 'why'"


def test_what_was_done_before_is_counted_and_not_told_again(capsys):
    tell(["done", "done", "pending"], ["done", "done", "done"], before={run.key for run in RUNS[:2]})
    before, now = capsys.readouterr().err.splitlines()
    assert before == "2 of 3 runs are done already"
    assert now.startswith("3/3 digits-resnet dense seed 2")


@pytest.mark.parametrize("columns", ["60", "120"])
def test_in_a_terminal_there_is_a_bar_with_the_count(columns, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    tell(["running", "running", "pending"], ["done", "failed", "running"], ["done", "failed", "done"])
    err = capsys.readouterr().err
    assert "3/3" in err
    assert "1 failed" in err
