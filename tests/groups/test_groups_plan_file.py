"""Plans as files: what is written is read, what a person edits is done, and what makes no sense is named."""

import json

import pytest
import torch

import secateur
from nets import ALL, fresh, graph
from secateur.errors import CheckpointError, PlanError
from secateur.experiments.models import build
from secateur.groups.plan import Drop, Fold, Keep, Merge, Plan
from secateur.groups.plan_file import Line, PlanFile
from secateur.surgery.fold import fold_means

KEPT = {"a.0": [1, 3]}  # of the groups stem.0 (6), a.0 (10) and b.0 (4)


def written(path, **changes):
    """A file of `KEPT`, with changes of the group a.0."""
    g = graph("padded")
    PlanFile.of(g, Plan.keeping(g, KEPT)).write(path)
    content = json.loads(path.read_text())
    content["groups"]["a.0"] |= changes
    path.write_text(json.dumps(content))
    return path


def test_the_text_of_a_file(tmp_path):
    """Written out, for this is what a person edits."""
    file = PlanFile(about={"model": "ü"}, groups={"a.0": Line(kind="channel", size=3, keep=1, order=(2, 0, 1))})
    assert str(file).splitlines() == [
        "{",
        '  "format": "secateur plan 1",',
        '  "about": {',
        '    "model": "\\u00fc"',
        "  },",
        '  "groups": {',
        '    "a.0": {"kind": "channel", "size": 3, "keep": 1, "order": [2, 0, 1]}',
        "  },",
        '  "edits": [],',
        '  "made_for": {}',
        "}",
    ]
    file.write(tmp_path / "plan.json")
    assert PlanFile.read(tmp_path / "plan.json") == file


def test_units_that_stay_come_first_each_part_by_falling_score():
    g = graph("padded")
    scores = {"a.0": torch.tensor([5.0, 1.0, 9.0, 2.0, 5.0, 0.0, 7.0, 0.0, 3.0, 3.0])}
    file = PlanFile.of(g, Plan.keeping(g, KEPT), scores)
    assert file.groups["a.0"].order == (3, 1, 2, 6, 0, 4, 8, 9, 5, 7)
    assert file.groups["stem.0"] == Line(kind="channel", size=6, keep=6, order=tuple(range(6)))
    assert PlanFile.of(g, Plan.keeping(g, KEPT)).groups["a.0"].order == (1, 3, 0, 2, 4, 5, 6, 7, 8, 9)


def test_there_and_back(tmp_path):
    g = graph("padded")
    plan = Plan.keeping(g, KEPT | {"b.0": [0]})
    PlanFile.of(g, plan, about={"cost": {"after": {"macs": 12}}}).write(tmp_path / "plan.json")
    read = PlanFile.read(tmp_path / "plan.json")
    assert read.plan(g) == plan
    assert read.about["cost"]["after"]["macs"] == 12
    assert read.kinds == ("channel",)


def test_a_person_edits_keep_and_the_order(tmp_path):
    g = graph("padded")
    wider = PlanFile.read(written(tmp_path / "a.json", keep=4)).plan(g)
    assert wider.kept["a.0"].tolist() == [0, 1, 2, 3]
    turned = PlanFile.read(written(tmp_path / "a.json", order=[9, 4, 0, 1, 2, 3, 5, 6, 7, 8])).plan(g)
    assert turned.kept["a.0"].tolist() == [4, 9]
    assert PlanFile.read(written(tmp_path / "a.json", keep=10)).plan(g) == Plan()


def test_groups_that_are_not_named_stay_whole():
    assert PlanFile().plan(graph("padded")) == Plan()


def test_blocks_go_by_keep_0():
    g = secateur.trace(build("resnet20"), torch.zeros(1, 3, 32, 32), kinds=("channel", "depth"))
    file = PlanFile.of(g, Plan(edits=(Drop(block="layer1.1"), Keep(group="layer1.0.conv1", units=(0, 2)))))
    assert file.groups["layer1.1"] == Line(kind="depth", size=1, keep=0, order=(0,))
    assert file.groups["layer1.2"].keep == 1
    assert set(file.plan(g).edits) == {Drop(block="layer1.1"), Keep(group="layer1.0.conv1", units=(0, 2))}
    assert set(file.kinds) == {"channel", "depth"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keep": 11}, r"groups\['a.0'\]: keep=11 of 10 units"),
        ({"keep": 0}, r"groups\['a.0'\]: keep=0: a group of channels must keep"),
        ({"keep": -1}, r"groups\['a.0'\].keep=-1: "),
        ({"keep": 2.0}, r"groups\['a.0'\].keep=2.0: "),
        ({"keep": True}, r"groups\['a.0'\].keep=True: "),
        ({"order": [0, 1]}, "unit 2 is missing"),
        ({"order": [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}, "11 entries for 10 units"),
        ({"order": [0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9]}, "there is no unit 10"),
        ({"order": [0, "1"]}, r"groups\['a.0'\].order\[1\]='1'"),
        ({"kind": "chanel"}, r"groups\['a.0'\].kind='chanel': give one of channel, head"),
        ({"kind": "depth"}, "a residual block is one unit"),
        ({"keeps": 3}, r"groups\['a.0'\].keeps=3: Extra"),
    ],
)
def test_content_that_makes_no_sense_is_named_with_the_file(changes, reason, tmp_path):
    with pytest.raises(PlanError, match=reason) as caught:
        PlanFile.read(written(tmp_path / "mine.json", **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'mine.json'}: no plan file can be made: ")


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ('{"format": "secateur plan 2"}', PlanError, "format='secateur plan 2': Input should be 'secateur plan 1'"),
        ('{"groups": {"a": {"kind": "channel", "size": 1, "keep": 1}}}', PlanError, "groups.a.order is missing"),
        ("[]", PlanError, "valid dictionary"),
        ('{"groups": {}, "groups": {}}', PlanError, "'groups' is there twice"),
        ('{"about": {"cost": NaN}}', PlanError, "NaN is no number"),
        ('{"edits": [{"edit": "drop", "block": "a"}]}', PlanError, r"edits\[0\]"),
        ('{\n"format": "secateur plan 1"\n"about": {}\n}', CheckpointError, "no JSON at line 3, column 1"),
        ("", CheckpointError, "no JSON at line 1"),
        (b"\xff\xfe\x00", CheckpointError, "no JSON"),
        ("[" * 100_000, CheckpointError, "no JSON"),
    ],
)
def test_files_that_are_not_one(text, error, reason, tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=reason):
        PlanFile.read(path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.json: No such file"):
        PlanFile.read(tmp_path / "none.json")
    with pytest.raises(CheckpointError, match="cannot read"):
        PlanFile.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        PlanFile().write(tmp_path / "file" / "plan.json")
    with pytest.raises(PlanError, match="about"):
        PlanFile(about={"cost": float("nan")})
    with pytest.raises(PlanError, match="about"):
        PlanFile(about={"cost": {1, 2}})


def test_another_model_is_refused_with_both_sides_quoted():
    g = graph("padded")
    line = {"kind": "channel", "size": 10, "keep": 2, "order": list(range(10))}
    with pytest.raises(PlanError, match=r"another model: there is no group 'a\.O'\. Did you mean 'a\.0'"):
        PlanFile(groups={"a.O": line}).plan(g)
    with pytest.raises(PlanError, match=r"'b\.0' is 10 channels in the plan file and 4 channels in the model"):
        PlanFile(groups={"b.0": line}).plan(g)
    with pytest.raises(PlanError, match=r"'a\.0' is 10 neurons in the plan file and 10 channels"):
        PlanFile(groups={"a.0": line | {"kind": "neuron"}}).plan(g)
    frozen = secateur.trace(fresh("padded"), ALL["padded"].example, frozen=["a.0"])
    with pytest.raises(PlanError, match="frozen"):
        PlanFile(groups={"a.0": line}).plan(frozen)
    with pytest.raises(PlanError, match="it has 10 units"):
        PlanFile.of(g, Plan(), {"a.0": torch.zeros(3)})
    with pytest.raises(PlanError, match="asks for unit 10"):
        PlanFile.of(g, Plan(edits=(Keep(group="a.0", units=(10,)),)))


def folded():
    g = graph("padded")
    return g, fold_means(g, Plan.keeping(g, KEPT), [ALL["padded"].example])


def test_foldings_and_merges_go_along(tmp_path):
    g, plan = folded()
    assert plan.folds
    PlanFile.of(g, plan).write(tmp_path / "plan.json")
    assert PlanFile.read(tmp_path / "plan.json").plan(g) == plan
    merging = Plan(edits=(*Plan.keeping(g, KEPT).edits, Merge(group="a.0", units=(2,), into=(3,), factors=(0.5,))))
    assert PlanFile.model_validate_json(str(PlanFile.of(g, merging))).plan(g) == merging


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"keep": 3}, "unit 0 stays now"), ({"keep": 1}, "unit 3 goes now"), ({"keep": 10}, "unit 0 stays now")],
)
def test_edits_made_for_other_units_are_refused(changes, told):
    g, plan = folded()
    content = json.loads(str(PlanFile.of(g, plan)))
    content["groups"]["a.0"] |= changes
    with pytest.raises(PlanError, match=f"'fold' of group 'a.0' was made for other kept units: {told}"):
        PlanFile.model_validate(content).plan(g)
    del content["groups"]["a.0"]
    with pytest.raises(PlanError, match="and no such group"):
        PlanFile.model_validate(content).plan(g)


def test_an_edit_that_makes_no_sense_is_named():
    fold = Fold(group="a", reader="b", units=(), constants=()).model_dump() | {"units": [1]}
    with pytest.raises(PlanError, match="1 units and constants for 0"):
        PlanFile.model_validate({"edits": [fold]})
