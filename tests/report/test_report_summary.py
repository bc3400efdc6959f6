"""The summary is the closed form over seeds, in the study's order, and loses no run."""

import pytest
from report_rows import SETTING, done, failed, pending, run, study

from secateur.errors import StudyError
from secateur.report.summary import summarise


def only(items):
    (item,) = items
    return item


def test_a_cell_holds_what_its_seeds_gave():
    given = [(0.90, 0.4, 0.30, 1e-15), (0.94, 0.5, 0.20, 3e-15)]
    rows = [
        done(run(seed=s), a, kept=k, at_cut=c, max_error=e, dense=0.99 - s / 100)
        for s, (a, k, c, e) in enumerate(given)
    ]
    cell = only(only(summarise(rows).lines).cells)
    assert (cell.model, cell.method, cell.budget, cell.arm) == ("digits-resnet", "l1", "macs=0.5", "finetune")
    assert cell.seeds == (0, 1)
    assert cell.accuracy.mean == pytest.approx(0.92)
    assert cell.accuracy.sd == pytest.approx(0.04 / 2**0.5)
    assert (cell.accuracy.low, cell.accuracy.high) == (0.90, 0.94)
    assert cell.accuracy_at_cut.mean == pytest.approx(0.25)
    assert cell.accuracy_dense.mean == pytest.approx(0.985)
    assert cell.kept["macs"].mean == pytest.approx(0.45)
    assert cell.kept["params"].mean == pytest.approx((32 + 50) / 2 / 200)
    assert cell.kept["bytes"].mean == pytest.approx((128 + 200) / 2 / 800)
    assert cell.epochs.mean == 4
    assert cell.max_error == 3e-15
    assert cell.missing == ()


def test_failed_and_unfinished_runs_are_named_and_not_counted():
    rows = [done(run(seed=0), 0.9), failed(run(seed=1), "TrainingError: nan"), pending(run(seed=2))]
    summary = summarise(rows)
    cell = only(only(summary.lines).cells)
    assert (cell.seeds, cell.accuracy.n, cell.accuracy.sd) == ((0,), 1, None)
    assert [(m.status, m.error) for m in cell.missing] == [("failed", "TrainingError: nan"), ("pending", None)]
    assert [m.key for m in cell.missing] == [rows[1].run.key, rows[2].run.key]
    assert summary.missing == cell.missing
    assert (summary.runs, summary.seeds) == (3, 3)


def test_a_line_of_failures_alone_stays():
    summary = summarise([failed(run(seed=0), "BudgetUnreachable: no"), done(run(method="l2"), 0.9)])
    assert [line.method for line in summary.lines] == ["l1", "l2"]
    assert summary.lines[0].accuracy_at_cut.n == 0
    assert summary.lines[0].widths == ()


def test_what_arms_share_counts_once_a_seed():
    line = summarise(study(methods=("l1",))).lines[0]
    assert [c.arm for c in line.cells] == ["finetune", "scratch-e"]
    assert line.accuracy_at_cut.n == line.kept["macs"].n == 3
    assert [(w.group, w.size, w.kept.values) for w in line.widths] == [
        ("conv1", 16, (4, 5, 6)),
        ("layer1.0.conv1", 32, (8, 8, 8)),
    ]
    assert (line.before["macs"].mean, line.after["macs"].mean) == (1000, 500)
    assert line.disagree == ()


def test_arms_pruned_to_different_widths_are_reported():
    rows = [done(run("finetune"), 0.9, widths=(8, 16)), done(run("scratch-e"), 0.9, widths=(7, 16))]
    assert only(summarise(rows).lines).disagree == (0,)


def test_an_arm_that_is_done_speaks_for_one_that_is_not():
    line = only(summarise([failed(run("finetune"), "x"), done(run("scratch-e"), 0.9, at_cut=0.4)]).lines)
    assert line.accuracy_at_cut.values == (0.4,)


def test_dense_runs_stand_apart_from_those_of_a_method():
    rows = [
        done(run("dense", s, method=m), 0.9 + s / 100 + (0.05 if m else 0)) for m in (None, "slimming") for s in (0, 1)
    ]
    plain, own = summarise(rows).dense
    assert (plain.method, own.method) == (None, "slimming")
    assert plain.accuracy.mean == pytest.approx(0.905)
    assert own.accuracy.mean == pytest.approx(0.955)
    assert plain.kept["macs"].n == 0
    assert plain.max_error is None


def test_the_order_is_the_studys():
    rows = study(models=("vgg16", "digits-resnet"), methods=("taylor", "l1"), budgets=("macs=0.7", "macs=0.3"))
    late = done(run(model="vgg16", method="l2", budget="macs=0.7", seed=0), 0.9)
    lines = summarise([*rows, late]).lines
    assert [(x.model, x.budget, x.method) for x in lines[:4]] == [
        ("vgg16", "macs=0.7", "taylor"),
        ("vgg16", "macs=0.7", "l1"),
        ("vgg16", "macs=0.7", "l2"),
        ("vgg16", "macs=0.3", "taylor"),
    ]
    assert [x.model for x in lines].index("digits-resnet") == 5


def test_rows_of_two_settings_are_not_mixed():
    other = SETTING.model_copy(update={"calibration": 64})
    with pytest.raises(StudyError, match="2 settings"):
        summarise([done(run(), 0.9), done(run(setting=other), 0.9)])
