"""Plans: pure data, checked before anything is done with them."""

import json

import pytest
from pydantic import ValidationError

from nets import graph
from secateur.errors import PlanError, SecateurError, UnknownName
from secateur.groups.plan import Fold, Keep, Plan


def test_keeping_leaves_whole_groups_out():
    g = graph("padded")
    plan = Plan.keeping(g, {"stem.0": range(6), "a.0": [1, 3]})
    assert plan.edits == (Keep(group="a.0", units=(1, 3)),)
    assert plan.widths(g) == {"stem.0": 6, "a.0": 2, "b.0": 4}
    assert str(plan) == "a.0: keep 2"


@pytest.mark.parametrize(
    ("kept", "error", "reason"),
    [
        ({"a.0": [0, 10]}, PlanError, "has 10 units, the plan asks for unit 10"),
        ({"a.0": range(11)}, PlanError, "has 10 units"),
        ({"a.0": []}, PlanError, "at least one unit"),
        ({"a.0": [3, 1]}, PlanError, "rising order"),
        ({"a.0": [1, 1]}, PlanError, "different"),
        ({"a.0": [-1, 1]}, PlanError, "not negative"),
        ({"zzz": [1]}, UnknownName, "'zzz'"),
        ({"head.linear": [1]}, PlanError, "frozen"),
    ],
)
def test_refused(kept, error, reason):
    with pytest.raises(error, match=reason):
        Plan.keeping(graph("padded"), kept)


def test_json_and_back():
    fold = Fold(group="a.0", reader="b.0.weight", units=(4,), constants=((0.1,),))
    plan = Plan(edits=(Keep(group="a.0", units=(0, 2)), fold))
    text = plan.model_dump_json()
    assert Plan.model_validate_json(text) == plan
    assert json.loads(text)["edits"][0] == {"edit": "keep", "group": "a.0", "units": [0, 2]}
    assert plan.folds == (fold,)
    assert plan.kept["a.0"].tolist() == [0, 2]


def test_plans_are_values():
    one, other = (Plan(edits=(Keep(group="a.0", units=(0, 2)),)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(ValidationError):
        one.edits = ()


def test_fields_that_do_not_exist_are_refused():
    with pytest.raises(PlanError):
        Plan.model_validate({"edits": [{"edit": "keep", "group": "a", "units": [0], "unit": 3}]})
    with pytest.raises(PlanError):
        Plan.model_validate({"edits": [{"edit": "drop", "group": "a"}]})


@pytest.mark.parametrize("units", [(), (1, 1), (2, 1), (-1,)])
def test_edits_made_by_hand_raise_our_own_error(units):
    with pytest.raises(SecateurError):
        Keep(group="a.0", units=units)
