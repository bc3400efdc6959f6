"""`secateur plan`: the file, and that it is the plan `prune` cuts."""

import json
import re

import pytest

from secateur.experiments.models import build
from secateur.groups.plan_file import PlanFile

FAST = ("plan", "--model", "digits-resnet", "--budget", "macs=0.5")


def test_the_file_says_what_prune_would_cut(secateur):
    code, out, err = secateur(*FAST, "--criterion", "l1", "--out", "a/plan.json", "--json")
    found = json.loads(out)
    assert code == 0
    assert "random weights" in err
    file = PlanFile.read("a/plan.json")
    pruned = json.loads(secateur("prune", *FAST[1:], "--criterion", "l1", "--json").out)
    assert found["widths"] == pruned["widths"]
    assert (found["before"], found["after"]) == (pruned["before"], pruned["after"])
    kept = {w["group"]: w["kept"] for w in found["widths"]}
    assert {name: line.keep for name, line in file.groups.items()} == kept
    assert file.about == {
        "model": "digits-resnet",
        "weights": None,
        "data": None,
        "method": None,
        "criterion": "l1",
        "allocator": "ranked",
        "budget": "macs=0.5",
        "seed": 0,
        "cost": {"before": found["before"], "after": found["after"], "of": kept},
    }


def test_units_stand_in_the_order_of_their_scores(secateur):
    secateur(*FAST, "--criterion", "l1", "--out", "plan.json")
    orders = {}
    for fraction in ("macs=0.8", "macs=0.3"):
        assert secateur(*FAST[:3], "--budget", fraction, "--criterion", "l1", "--out", "other.json").code == 0
        orders[fraction] = {name: line.order for name, line in PlanFile.read("other.json").groups.items()}
    assert orders["macs=0.8"] == orders["macs=0.3"]  # a ranking: what stays longer stands first, at any budget


def test_for_people_and_without_a_file(secateur, tmp_path):
    code, out, _ = secateur(*FAST, "--allocator", "uniform")
    assert code == 0
    assert "layer3.0.conv2" in out
    assert re.search(r"macs +\d", out)
    assert "not saved: no --out" in out
    assert list(tmp_path.iterdir()) == []


def test_foldings_of_a_method_are_in_the_file(secateur):
    words = ("--method", "slimming", "--data", "digits", "--calibration", "64", "--out", "plan.json")
    code, _, err = secateur(*FAST, *words)
    assert (code, "works while a network trains" in err) == (0, True)
    file = PlanFile.read("plan.json")
    assert file.edits
    assert file.about["method"] == "slimming"
    build("digits-resnet").get_parameter(file.edits[0].reader)


def test_steps_and_given_widths(secateur):
    secateur(*FAST, "--criterion", "group-norm", "--out", "once.json")
    words = ("--steps", "3", "--steps-schedule", "cubic", "--criterion", "group-norm")
    assert secateur(*FAST, *words, "--out", "plan.json").code == 0
    widths = {name: line.keep for name, line in PlanFile.read("plan.json").groups.items()}
    assert widths != {name: line.keep for name, line in PlanFile.read("once.json").groups.items()}
    words = ("--allocator", "given:file=plan.json", "--criterion", "random", "--out", "again.json")
    assert secateur(*FAST[:3], *words).code == 0
    assert {name: line.keep for name, line in PlanFile.read("again.json").groups.items()} == widths
    code, _, err = secateur(*FAST[:3], "--budget", "macs=0.1", *words)
    assert (code, "is not what plan.json meets: macs " in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--budget", "mac=0.5"), 2, "'mac=0.5' is no budget"),
        (("--budget", "macs=1e-6"), 3, "BudgetUnreachable"),
        (("--criterion", "taylor"), 2, "criterion taylor scores from gradients over training images: give --data"),
        (("--data", "digits", "--input", "1,1,8,8"), 2, "leave one out"),
        (("--out", "plan.safetensors"), 2, "does not end in .json"),
        (("--out", "/proc/none/plan.json"), 4, "cannot be made"),
        (("--allocator", "given:file=none.json"), 4, "cannot read none.json"),
        (("--steps", "0"), 2, "'--steps'"),
        (("--steps", "2", "--steps-schedule", "square"), 2, "'square' is not one of"),
        (("--steps", "2", "--method", "taylor"), 2, "prunes at once"),
        (("--steps", "2", "--allocator", "ranked:min_keep=0.5"), 2, "min_keep=0.5 of allocator 'ranked' is a fraction"),
    ],
)
def test_what_is_refused(words, code, message, secateur):
    got, out, err = secateur(*FAST, *words)
    assert (got, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
