"""`secateur sensitivity`, from the command line to its files."""

import json

import pytest

import secateur as package
from secateur.allocation.curves import Sensitivity
from secateur.allocation.uniform import Uniform
from secateur.cli.inputs import model_of
from secateur.cost.cost import CostModel
from secateur.experiments.data import load
from secateur.experiments.sensitivity import sensitivity
from secateur.training.seeds import child_seed

FAST = ("sensitivity", "--model", "digits-resnet", "--data", "digits", "--calibration", "64", "--ratios", "0.5,0.25")


def test_what_is_printed_and_stored_is_what_python_gives(secateur, tmp_path):
    code, out, _ = secateur(*FAST, "--criterion", "taylor", "--out", "new/s", "--metric", "loss", "--json")
    assert code == 0
    found = json.loads(out)
    assert found == json.loads((tmp_path / "new/s/sensitivity.json").read_text())

    data = load("digits")
    batches = [next(iter(data.loader("train", batch_size=64, seed=child_seed(0, "calibration"))))]
    graph = package.trace(model_of("digits-resnet", 10, None, 0), data.example())
    scores = package.score(graph, "taylor", batches=batches)
    expected = sensitivity(graph, batches, scores, (0.25, 0.5))
    assert found["ratios"] == [0.25, 0.5]
    assert found["dense"] == pytest.approx(expected.dense)
    for group in found["groups"]:
        for metric, values in group["values"].items():
            assert values == pytest.approx(list(expected.values[metric][group["group"]]), rel=1e-6)
    keep = expected.keep_for(0.01, "loss")
    assert {g["group"]: g["keep"] for g in found["groups"]} == keep
    plan = package.allocate(graph, scores, allocator=Uniform(keep=keep))
    assert {g["group"]: g["kept"] for g in found["groups"]} == plan.widths(graph)
    assert found["after"] == CostModel(graph).at(plan.widths(graph)).as_dict()
    stored = Sensitivity.load(tmp_path / "new/s/sensitivity.safetensors", graph)
    assert stored.values == expected.values


def test_for_people_and_for_a_budget(secateur, tmp_path):
    code, out, err = secateur(*FAST, "--out", "s")
    assert code == 0
    assert "accuracy of the whole model on 64 training images" in out
    assert "keep: the smallest ratio from which on none costs more than 0.01 of accuracy" in out
    assert "no --weights" in err
    assert out.rstrip().endswith("page: s/sensitivity.html")
    names = {"sensitivity.json", "sensitivity.html", "sensitivity.safetensors"}
    assert {p.name for p in (tmp_path / "s").iterdir()} == names
    found = json.loads(secateur(*FAST, "--out", "s", "--budget", "macs=0.6", "--json").out)
    assert found["after"]["macs"] <= 0.6 * found["before"]["macs"]
    assert (found["max_drop"], found["budget"]) == (None, str(package.Budget(macs=0.6)))
    out = secateur(*FAST, "--out", "s", "--budget", "macs=0.6").out
    assert "the least tolerated drop of accuracy that meets" in out


def test_budgets_only_read_and_ratios_add(secateur, monkeypatch):
    from secateur.experiments import sensitivity as engine

    calls = []

    def counted(*given, real=engine.measured):
        calls.append(1)
        return real(*given)

    monkeypatch.setattr(engine, "measured", counted)
    secateur(*FAST, "--out", "s")
    assert len(calls) == 1 + 2 * 6
    for words in (("--max-drop", "0.1"), ("--budget", "macs=0.7"), ("--metric", "loss")):
        assert secateur(*FAST, "--out", "s", *words).code == 0
    assert len(calls) == 13
    assert secateur(*FAST, "--out", "s", "--ratios", "0.25,0.5,0.75").code == 0
    assert len(calls) == 19
    code, _, err = secateur(*FAST, "--out", "s", "--criterion", "l2")
    assert (code, "was measured on other scores than these" in err) == (4, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--criterion", "tailor"), 2, "Did you mean 'taylor'"),
        (("--ratios", "half"), 2, "'half' is no list of fractions"),
        (("--ratios", "0.5,1.5"), 2, "give fractions to keep"),
        (("--metric", "acuracy"), 2, "Did you mean 'accuracy'"),
        (("--budget", "macs=0"), 2, "macs=0.0 is no budget"),
        (("--budget", "macs=0.5", "--max-drop", "0.1"), 2, "leave one out"),
        (("--budget", "macs=1e-6"), 3, "BudgetUnreachable"),
        (("--kinds", "head"), 2, "no group has a width to prune"),
        (("--out", "/proc/none/o"), 4, "cannot be made"),
    ],
)
def test_what_is_refused(words, code, message, secateur):
    got, out, err = secateur(*FAST, *(() if "--out" in words else ("--out", "s")), *words)
    assert (got, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
