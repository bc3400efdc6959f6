"""`secateur apply`: from a plan file to the same model that `prune` makes, or to what a person made of it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import secateur as package
from secateur.experiments.models import build

MODEL = ("--model", "digits-resnet")
PLAN = ("plan", *MODEL, "--budget", "macs=0.5")


@pytest.fixture
def planned(secateur):
    """A plan by L2, in plan.json."""
    assert secateur(*PLAN, "--out", "plan.json").code == 0
    return Path("plan.json")


def edit(path, group, **changes):
    content = json.loads(path.read_text())
    content["groups"][group] |= changes
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "method", [(), ("--criterion", "taylor"), ("--method", "slimming"), ("--method", "srinivas2015")], ids=str
)
def test_plan_and_apply_make_what_prune_makes(method, secateur):
    words = (*method, "--data", "digits", "--calibration", "64")
    repair = () if "slimming" in method else ("--repair", "reconstruct")
    assert secateur(*PLAN, *words, "--out", "plan.json").code == 0
    done = secateur("prune", *PLAN[1:], *words, *repair, "--out", "one.safetensors", "--json")
    again = secateur(
        "apply", "plan.json", *MODEL, *words[len(method) :], *repair, "--out", "other.safetensors", "--json"
    )
    assert (done.code, again.code) == (0, 0)
    found, expected = json.loads(again.out), json.loads(done.out)
    assert found.pop("plan") == "plan.json"
    for key in ("out", "seconds"):
        del found[key], expected[key]
    assert found == expected
    one, other = load_file("one.safetensors"), load_file("other.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_a_person_edited_is_cut_and_trained(planned, secateur):
    edit(planned, "layer3.0.conv1", keep=5, order=list(reversed(range(64))))
    words = ("--data", "digits", "--finetune", "1", "--lr", "0.1", "--out", "small.safetensors", "--json")
    code, out, _ = secateur("apply", planned, *MODEL, *words)
    assert code == 0
    found = json.loads(out)
    assert found["accuracy"]["finetuned"] > max(0.3, found["accuracy"]["at_cut"])
    assert found["check"]["max_error"] < found["check"]["tolerance"]
    model = package.load("small.safetensors", into=build("digits-resnet"))
    assert model.layer3[0].conv1.weight.shape[0] == 5


def test_for_people(planned, secateur):
    code, out, err = secateur("apply", planned, *MODEL)
    assert code == 0
    assert "layer3.0.conv2" in out
    assert "check: relative difference from the original with removed units masked:" in out
    assert "not saved: no --out" in out
    assert "no --weights" in err


def test_blocks_that_go(secateur):
    groups = {"layer1.1": {"kind": "depth", "size": 1, "keep": 0, "order": [0]}}
    Path("drop.json").write_text(json.dumps({"format": "secateur plan 1", "groups": groups}))
    code, out, _ = secateur("apply", "drop.json", "--model", "resnet20", "--out", "small.safetensors", "--json")
    assert (code, json.loads(out)["widths"][0]) == (0, {"group": "layer1.0", "units": 1, "kept": 1})
    assert isinstance(package.load("small.safetensors", into=build("resnet20")).layer1[1], torch.nn.Identity)


def test_a_larger_model_of_the_same_names_is_noted(planned, secateur):
    code, _, err = secateur("apply", planned, "--model", "resnet20")
    assert code == 0
    assert "note: plan.json was made for --model digits-resnet" in err
    assert "note: 6 groups of the model are not in plan.json and stay whole: layer1.1.conv1, layer1.2.conv1, " in err
    edit(planned, "conv1", keep=3)
    err = secateur("apply", planned, *MODEL).err
    assert "stay whole" not in err
    assert "was made for" not in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": 65}, "plan.json: no plan file can be made: groups['layer3.0.conv1']: keep=65 of 64 units"),
        ({"size": 3, "keep": 1, "order": [0, 1, 2]}, "'layer3.0.conv1' is 3 channels in the plan file and 64 channels"),
    ],
)
def test_what_does_not_fit_is_code_3(changes, message, planned, secateur):
    edit(planned, "layer3.0.conv1", **changes)
    code, out, err = secateur("apply", planned, *MODEL, "--out", "small.safetensors")
    assert (code, out) == (3, "")
    assert message in err
    assert not Path("small.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("none.json", *MODEL), 4, "cannot read none.json"),
        (("bad.json", *MODEL), 4, "bad.json is no JSON at line 1, column 1"),
        (("plan.json", "--model", "digits-vgg"), 3, "plan file is of another model: there is no group 'conv1'"),
        (("plan.json", "--model", "digits-resnett"), 2, "Did you mean 'digits-resnet'"),
        (("plan.json", *MODEL, "--repair", "fold"), 2, "--repair fold measures"),
        (("plan.json", *MODEL, "--finetune", "1"), 2, "--finetune trains on images"),
        (("plan.json", *MODEL, "--out", "small.json"), 2, "does not end in .safetensors"),
        (("plan.json", *MODEL, "--data", "digits", "--input", "1,1,8,8"), 2, "leave one out"),
    ],
)
def test_what_is_refused(words, code, message, planned, secateur):
    Path("bad.json").write_text("not json")
    got, out, err = secateur("apply", *words)
    assert (got, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
