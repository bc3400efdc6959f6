"""The terminal's table shows the summary's numbers, and each run without a result; JSON has all of it."""

import io
import json

from report_rows import done, failed, pending, run, study
from rich.console import Console

from secateur.report.table import as_json, table


def shown(rows, width=100):
    out = io.StringIO()
    Console(file=out, width=width).print(table(rows))
    return out.getvalue()


def test_a_line_a_method_with_percent_and_spread():
    lines = shown(study(methods=("random", "l1"))).splitlines()
    (l1,) = [x.split() for x in lines if x.split()[:1] == ["l1"]]
    assert " ".join(l1) == "l1 50.0 25.0 99.00 ± 0.00 30.00 ± 0.00 95.50 ± 0.10 96.00 ± 0.10"
    assert [x.split()[0] for x in lines if "±" in x][:2] == ["random", "l1"]
    assert any("11 of 11" in x or "15 of 15" in x for x in lines)


def test_one_seed_has_no_spread():
    assert "95.00 ± –" in shown(study(seeds=(0,)))


def test_each_model_and_budget_has_a_heading():
    text = shown(study(models=("digits-resnet", "vgg16"), budgets=("macs=0.3", "macs=0.6")))
    for heading in ("digits-resnet, macs=0.3", "digits-resnet, macs=0.6", "vgg16, macs=0.3", "vgg16, macs=0.6"):
        assert heading in text


def test_numbers_are_whole_in_a_terminal_of_80_columns():
    text = shown(study(methods=("slimming:penalty_weight=0.001",)), width=80)
    assert "95.10 ± 0.10" in text
    assert "95.60 ± 0.10" in text
    assert "…" not in text


def test_failures_and_unfinished_runs_are_shown():
    rows = [done(run(seed=0), 0.9), failed(run(seed=1), "Traceback:\n  f\nTrainingError: nan"), pending(run(seed=2))]
    text = shown(rows)
    for part in ("n=1", "1 failed, 1 pending", "1 of 3 runs done", "l1 macs=0.5 finetune seed 1: TrainingError: nan"):
        assert part in text


def test_an_arm_that_was_not_asked_for_is_no_failure():
    rows = [done(run("finetune"), 0.9), done(run("scratch-e", method="l2"), 0.9)]
    assert "not in study" in shown(rows)


def test_markup_in_names_is_text():
    assert "x[bold]y" in shown([done(run(model="x[bold]y"), 0.9), failed(run(model="x[bold]y", seed=1), "[red]no")])


def test_json_has_the_same_summary():
    read = json.loads(as_json([*study(), failed(run(seed=9), "why")]))
    cell = next(c for x in read["lines"] if x["method"] == "l1" for c in x["cells"] if c["arm"] == "finetune")
    assert cell["accuracy"]["values"] == [0.954, 0.955, 0.956]
    assert abs(cell["accuracy"]["mean"] - 0.955) < 1e-12
    assert read["missing"][0]["error"] == "why"
