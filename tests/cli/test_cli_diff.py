"""`secateur diff`: two plan files in a table, or as JSON."""

import json
import re

import pytest

from secateur.groups.plan import Merge
from secateur.groups.plan_file import Line, PlanFile


@pytest.fixture
def files(tmp_path):
    def line(keep, order=(0, 1, 2, 3)):
        return Line(kind="channel", size=4, keep=keep, order=order)

    one = {"conv1": line(2), "conv2": line(3), "conv3": line(4)}
    other = {"conv1": line(2), "conv2": line(2, (3, 2, 1, 0))}
    merge = Merge(group="conv1", units=(2,), into=(0,))
    PlanFile(groups=one, about={"cost": {"after": {"macs": 2_000_000, "params": 10}}}, edits=(merge,)).write("a.json")
    PlanFile(groups=other, about={"cost": {"after": {"macs": 1_500_000, "bytes": 0}}}).write("b.json")


def test_as_json(secateur, files):
    code, out, err = secateur("diff", "a.json", "b.json", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "a": "a.json",
        "b": "b.json",
        "groups": [
            {"group": "conv1", "size": 4, "a": 2, "b": 2, "shared": 2, "same": True},
            {"group": "conv2", "size": 4, "a": 3, "b": 2, "shared": 1, "same": False},
            {"group": "conv3", "size": 4, "a": 4, "b": None, "shared": 4, "same": True},
        ],
        "edits": {"a": 1, "b": 0, "same": False},
        "cost": {"macs": {"a": 2_000_000, "b": 1_500_000}},
    }


def test_for_people(secateur, files):
    code, out, err = secateur("diff", "a.json", "b.json")
    assert (code, err) == (0, "")
    assert re.search(r"conv2 +4 +3 +2 +1", out)
    assert "conv1" not in out
    assert "2 of 3 groups keep the same units" in out
    assert "other edits differ: 1 in A, 0 in B" in out
    assert re.search(r"macs +2 M +1.5 M +75.0 %", out)
    out = secateur("diff", "b.json", "b.json").out
    assert "2 of 2 groups keep the same units" in out
    assert "conv" not in out


def test_an_edited_file_is_counted_anew(secateur, tmp_path):
    assert secateur("plan", "--model", "digits-resnet", "--budget", "macs=0.5", "--out", "plan.json").code == 0
    content = json.loads((tmp_path / "plan.json").read_text())
    stated = content["about"]["cost"]["after"]["macs"]
    content["groups"]["layer3.0.conv1"]["keep"] = 8
    (tmp_path / "mine.json").write_text(json.dumps(content))
    code, out, err = secateur("diff", "plan.json", "mine.json", "--json")
    assert (code, json.loads(out)["cost"]) == (0, {})
    assert "mine.json was edited since it stated its cost: give --model" in err
    code, out, err = secateur("diff", "plan.json", "mine.json", "--model", "digits-resnet", "--json")
    macs = json.loads(out)["cost"]["macs"]
    assert (code, err, macs["a"]) == (0, "", stated)
    assert macs["b"] < stated


def test_what_is_refused(secateur, files):
    code, out, err = secateur("diff", "a.json", "none.json")
    assert (code, out, "CheckpointError" in err) == (4, "", True)
    PlanFile(groups={"conv1": Line(kind="channel", size=1, keep=1, order=(0,))}).write("c.json")
    code, out, err = secateur("diff", "a.json", "c.json")
    assert (code, out, "plans for different models" in err) == (3, "", True)
