"""`secateur prune`, from the command line to the file that Python loads."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

import secateur as package
from secateur.experiments.data import load
from secateur.experiments.models import build, resolve
from secateur.training.evaluate import evaluate_accuracy

FAST = ("prune", "--model", "digits-resnet", "--budget", "macs=0.5")


def test_from_data_to_a_file_that_python_loads(secateur):
    words = (
        "--data",
        "digits",
        "--criterion",
        "taylor",
        "--finetune",
        "1",
        "--lr",
        "0.1",
        "--out",
        "a/half.safetensors",
    )
    code, out, err = secateur(*FAST, *words, "--json")
    assert code == 0
    found = json.loads(out)
    assert "random weights" in err

    model = package.load("a/half.safetensors", into=build("digits-resnet"))
    graph = package.trace(model, load("digits").example())
    assert sum(p.numel() for p in model.parameters()) == found["after"]["params"]
    assert {g.name: g.size for g in graph.groups} == {w["group"]: w["kept"] for w in found["widths"]}
    assert found["kept"]["macs"] <= 0.5
    assert found["kept"]["macs"] == found["after"]["macs"] / found["before"]["macs"]
    assert found["check"]["max_error"] < found["check"]["tolerance"]
    accuracy = found["accuracy"]
    assert accuracy["finetuned"] == evaluate_accuracy(model, load("digits").loader("test"))
    assert accuracy["finetuned"] > max(0.3, accuracy["at_cut"])  # it did train

    code, out, _ = secateur("inspect", "--model", "digits-resnet", "--weights", "a/half.safetensors", "--json")
    assert (code, json.loads(out)["cost"]) == (0, found["after"])
    code, _, err = secateur(*FAST, "--weights", "a/half.safetensors")
    assert (code, "pruned already" in err) == (4, True)


def test_without_data_for_people(secateur):
    code, out, err = secateur(*FAST, "--criterion", "l1", "--allocator", "uniform")
    assert code == 0
    assert "layer3.0.conv2" in out
    assert re.search(r"macs +747.1 k", out)
    assert "check: relative difference from the original with removed units masked:" in out
    assert "not saved: no --out" in out
    assert "accuracy" not in out
    assert "no --weights" in err


def test_the_same_seed_gives_the_same_weights(secateur):
    def weights(name, seed):
        assert secateur(*FAST, "--criterion", "random", "--seed", seed, "--out", name).code == 0
        return load_file(name)  # tensors, for the order of facts in the header is safetensors' own

    a, b, c = weights("a.safetensors", 0), weights("b.safetensors", 0), weights("c.safetensors", 1)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["linear.bias"], c["linear.bias"])


def test_options_reach_the_allocator(secateur):
    plain, weighed = (json.loads(secateur(*FAST, *more, "--json").out)["widths"] for more in ((), ("--per-macs", "1")))
    assert plain != weighed
    spelt = secateur(*FAST, "--allocator", "ranked:per_macs=1", "--json").out
    assert json.loads(spelt)["widths"] == weighed


def test_an_allocator_with_a_fraction_needs_no_budget(secateur):
    out = secateur("prune", "--model", "digits-resnet", "--allocator", "uniform:keep=0.5", "--json").out
    assert all(w["kept"] == w["units"] // 2 for w in json.loads(out)["widths"])


def test_frozen_groups_stay(secateur):
    out = secateur(*FAST, "--frozen", "layer3*", "--frozen", "conv1", "--json").out
    assert not any(w["group"].startswith(("layer3", "conv1")) for w in json.loads(out)["widths"])


@pytest.mark.parametrize("repair", ["fold", "recalibrate", "reconstruct"])
def test_repairs_change_the_weights_and_not_the_widths(repair, secateur):
    words = (*FAST, "--data", "digits", "--calibration", "64", "--json", "--out")
    plain = json.loads(secateur(*words, "plain.safetensors").out)
    repaired = json.loads(secateur(*words, "repaired.safetensors", "--repair", repair).out)
    assert repaired["repair"] == repair
    assert repaired["widths"] == plain["widths"]
    assert repaired["accuracy"]["dense"] == plain["accuracy"]["dense"]
    one, other = (package.load(plan["out"], into=build("digits-resnet")).state_dict() for plan in (plain, repaired))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_torchvision_with_two_limits(secateur):
    command = ("prune", "--model", "torchvision:resnet18", "--input", "1,3,32,32", "--budget", "macs=0.6,params=6e6")
    code, out, _ = secateur(*command, "--out", "small.safetensors", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["kept"]["macs"] <= 0.6
    assert found["after"]["params"] <= 6e6
    model = package.load("small.safetensors", into=resolve("torchvision:resnet18"))
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_what_a_person_should_know_is_noted(secateur):
    err = secateur(*FAST, "--data", "digits", "--method", "slimming").err
    assert "method slimming works while a network trains" in err
    err = secateur("prune", "--model", "resnet56", "--method", "li2017", "--budget", "macs=0.5").err
    assert "method li2017 does not go by the budget, which is not met: macs" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--budget", "mac=0.5"), 2, "'mac=0.5' is no budget"),
        (("--budget", "macs=0"), 2, "macs=0.0 is no budget"),
        (("--budget", "macs=1e-6"), 3, "BudgetUnreachable"),
        (("--budget", "macs=1e15"), 3, "NothingToDo"),
        (("--criterion", "tailor"), 2, "Did you mean 'taylor'"),
        (("--criterion", "taylor"), 2, "criterion taylor scores from gradients over training images: give --data"),
        (("--method", "slimming"), 2, "method slimming folds"),
        (("--finetune", "1"), 2, "--finetune trains on images: give --data"),
        (("--repair", "fold"), 2, "--repair fold measures"),
        (("--repair", "pray"), 2, "pray"),
        (("--data", "digit"), 2, "Did you mean 'digits'"),
        (("--data", "cifar10:no-folder"), 2, "DataError"),
        (("--data", "digits", "--input", "1,1,8,8"), 2, "leave one out"),
        (("--method", "taylor", "--criterion", "l1"), 2, "leave one out"),
        (("--method", "taylor:foo=1"), 2, "called 'foo'"),
        (("--data", "digits", "--finetune", "1", "--lr", "0"), 2, "lr = 0.0"),
        (("--data", "digits", "--finetune", "1", "--lr", "1e9"), 3, "TrainingError: the loss is"),
        (("--method", "li2017"), 3, "PlanError"),
        (("--out", "half.pt"), 2, "does not end in .safetensors"),
        (("--out", "/proc/none/half.safetensors"), 4, "cannot be made"),
    ],
)
def test_what_is_refused(words, code, message, secateur):
    got, out, err = secateur(*FAST, *words)
    assert (got, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_without_a_budget(secateur):
    code, _, err = secateur("prune", "--model", "digits-resnet")
    assert (code, "--budget: how much may be left?" in err) == (2, True)


def test_data_of_another_shape(secateur):
    code, _, err = secateur("prune", "--model", "resnet20", "--budget", "macs=0.5", "--data", "digits")
    assert (code, "input of shape [1, 1, 8, 8]" in err) == (2, True)
