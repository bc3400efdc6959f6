"""`secateur inspect`."""

import json
import sys

import pytest

NETS = """
from torch import nn

print("a module that prints")

def make():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

def forgotten():
    return None
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    folder = tmp_path / "garden"
    folder.mkdir()
    (folder / "nets.py").write_text(NETS)
    yield "garden.nets"
    sys.modules.pop("garden.nets", None)
    sys.modules.pop("garden", None)


def test_groups_costs_and_what_is_frozen(secateur):
    code, out, err = secateur("inspect", "--model", "digits-resnet", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    groups = {group["name"]: group for group in found["groups"]}
    block = groups["layer1.0.conv1"]
    assert block["writers"] == ["layer1.0.conv1.weight"]
    assert block["readers"] == ["layer1.0.conv2.weight"]
    assert (block["kind"], block["units"]) == ("channel", 16)
    # A channel between two 3x3 convolutions of 16 channels at 8x8: 2 * 9 * 16 weights, and a scale and a shift.
    assert block["saved_per_unit"]["macs"] == 2 * 9 * 16 * 64
    assert block["saved_per_unit"]["params"] == 2 * 9 * 16 + 2
    assert [(f["name"], f["units"]) for f in found["frozen"]] == [("linear", 10)]
    assert found["units"] == sum(group["units"] for group in found["groups"])
    assert set(found["cost"]) == {"macs", "params", "bytes"}


def test_for_people(secateur):
    code, out, _ = secateur("inspect", "--model", "digits-resnet", "--frozen", "layer1.*")
    assert code == 0
    assert "4 of 7 groups prunable" in out
    assert "frozen: layer1.0.conv1 (16): asked for by frozen='layer1.*'" in out
    assert "layer3.0.conv1" in out
    assert "747.1 k MACs" in out


def test_a_callable_from_the_current_folder(nets, secateur):
    code, out, err = secateur("inspect", "--model", f"{nets}:make", "--input", "1,4", "--json")
    assert code == 0
    assert [(g["name"], g["units"]) for g in json.loads(out)["groups"]] == [("0", 8)]
    assert err == "a module that prints\n"


def test_a_callable_without_an_input_is_told_how_to_give_one(nets, secateur):
    code, _, err = secateur("inspect", "--model", f"{nets}:make")
    assert code == 2
    assert "--input 1,3,224,224" in err


def test_a_callable_that_gives_no_model(nets, secateur):
    code, _, err = secateur("inspect", "--model", f"{nets}:forgotten", "--input", "1,4")
    assert (code, "returned NoneType" in err) == (2, True)


def test_torchvision_by_name(secateur):
    command = ("inspect", "--model", "torchvision:resnet18", "--input", "1,3,32,32", "--classes", "7", "--json")
    code, out, _ = secateur(*command)
    found = json.loads(out)
    assert code == 0
    assert len(found["groups"]) == 12
    assert [f["units"] for f in found["frozen"]] == [7]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--model", "resnet57"), 2, "Did you mean 'resnet56'"),
        (("--model", "torchvision:resnet19"), 2, "Did you mean 'resnet1"),
        (("--model", "no.such:thing", "--input", "1,2"), 2, "no Python module 'no.such'"),
        (("--model", "resnet20", "--input", "1,1,8,8"), 2, "BadExample"),
        (("--model", "resnet20", "--input", "one"), 2, "'one' is no shape"),
        (("--model", "resnet20", "--frozen", "layer9*"), 2, "no module or parameter 'layer9*'"),
        (("--model", "resnet20", "--weights", "no.safetensors"), 4, "no weights file no.safetensors"),
        (("--model", "resnet20", "--weights", "W.pt"), 4, "not a .safetensors file"),
        (("--model", "hf:nowhere"), 4, "nowhere"),
    ],
)
def test_what_is_refused(words, code, message, secateur):
    got, out, err = secateur("inspect", *words)
    assert (got, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
