"""`secateur inspect`."""

import json
import sys

import pytest

from secateur.groups.find import Frozen
from secateur.groups.graph import Coverage

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
    assert set(found["cost"]) == {"macs", "params", "bytes", "activations"}
    assert found["kinds"] == {"channel": {"groups": 6, "units": found["units"]}}
    assert {"tensor": "layer1.0.bn1.bias", "axis": 0, "role": "scaled", "indices_per_unit": 1} in block["members"]
    assert [(r["groups"], r["units"]) for r in found["frozen_by_reason"]] == [(1, 10)]
    assert found["html"] is None


def test_for_people(secateur):
    code, out, _ = secateur("inspect", "--model", "digits-resnet", "--frozen", "layer1.*")
    assert code == 0
    assert "4 of 7 groups prunable" in out
    assert "  2 frozen: asked for by frozen='layer1.*'\n    conv1 (16)\n    layer1.0.conv1 (16)\n" in out
    assert "  frozen: linear (10): reaches the model's output" in out
    assert "units: 144 channels in 4 groups" in out
    assert "layer3.0.conv1" in out
    assert "747.1 k MACs" in out


def test_members_are_listed_when_asked_for(secateur):
    command = ("inspect", "--model", "digits-resnet", "--frozen", "layer1.*")
    assert "axis" not in secateur(*command).out
    out = secateur(*command, "--members").out
    assert "layer3.0.conv1: 64 channels\n  layer3.0.conv1.weight axis 0: written\n" in out
    assert "  layer3.0.conv2.weight axis 1: read\n" in out
    assert "frozen: layer1.0.conv1: 16 units: asked for by frozen='layer1.*'" in out


def test_kinds_that_are_not_asked_for_are_frozen(nets, secateur):
    command = ("inspect", "--model", f"{nets}:make", "--input", "1,4", "--json", "--kinds")
    assert json.loads(secateur(*command, "neuron, head").out)["units"] == 8
    found = json.loads(secateur(*command, "channel,head").out)
    assert (found["units"], found["kinds"]) == (0, {})
    assert "not in kinds=('channel', 'head')" in found["frozen"][-1]["reason"]
    code, _, err = secateur(*command, "channels")
    assert (code, "Did you mean 'channel'" in err) == (2, True)


def test_the_network_is_drawn(nets, secateur, tmp_path):
    command = ("inspect", "--model", f"{nets}:make", "--input", "1,4", "--html", "out/a page.html")
    code, out, _ = secateur(*command)
    assert (code, out.splitlines()[-1]) == (0, "network: out/a page.html")
    text = (tmp_path / "out" / "a page.html").read_text(encoding="utf-8")
    assert f"<h1>{nets}:make: what can be pruned</h1>" in text
    assert f"<pre>secateur inspect --model {nets}:make --input 1,4 --html &#39;out/a page.html&#39;</pre>" in text
    code, out, _ = secateur(*command, "--json")
    assert (code, json.loads(out)["html"]) == (0, "out/a page.html")


def test_a_page_that_cannot_be_written(nets, secateur, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = secateur("inspect", "--model", f"{nets}:make", "--input", "1,4", "--html", "file/page.html")
    assert (code, out) == (4, "a module that prints\n")
    assert "cannot write file/page.html" in err


def test_a_long_report_is_cut_short_and_the_most_frequent_reason_comes_first():
    frozen = [Frozen("lonely", 3, "nothing reads it", "")]
    frozen += [Frozen(f"block{i}", 8, "no rule for aten.odd", f"layer{i}") for i in range(300)]
    lines = str(Coverage((), tuple(frozen))).splitlines()
    assert lines[0] == "0 of 301 groups prunable (0 units); 301 frozen"
    assert lines[1] == "  300 frozen: no rule for aten.odd"
    assert lines[2] == "    block0 (8) at layer0"
    assert lines[-2:] == ["    and 294 more", "  frozen: lonely (3): nothing reads it"]
    many = [Frozen(f"g{i}", 1, f"reason {i}", "p") for i in range(50)]
    lines = str(Coverage((), tuple(many))).splitlines()
    assert lines[1] == "  frozen: g0 (1): reason 0 at p"
    assert lines[-1] == "  44 more frozen, for 44 other reasons"


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
