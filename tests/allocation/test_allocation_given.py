"""Given: widths from a file; a budget is no more than checked."""

import json

import pytest

import secateur
from nets import ALL, fresh, graph
from secateur import Budget, Plan
from secateur.allocation.given import Given
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, CheckpointError, NothingToDo, PlanError
from secateur.groups.plan import Merge
from secateur.groups.plan_file import PlanFile
from secateur.testing.allocator import random_scores

KEPT = {"a.0": [1, 3], "b.0": [0, 1, 2]}  # of 10 and 4 units


@pytest.fixture
def path(tmp_path):
    g = graph("padded")
    PlanFile.of(g, Plan.keeping(g, KEPT)).write(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_widths_from_the_file_and_units_by_score(path):
    g, scores = graph("padded"), random_scores(graph("padded"))
    plan = secateur.allocate(g, scores, allocator=Given(file=str(path)))
    assert plan.widths(g) == {"stem.0": 6, "a.0": 2, "b.0": 3}
    for name, units in plan.kept.items():
        assert sorted(scores[name].topk(len(units)).indices.tolist()) == units.tolist()


def test_units_from_the_file(path):
    g = graph("padded")
    plan = secateur.allocate(g, random_scores(g), allocator=Given(file=str(path), units="file"))
    assert plan == Plan.keeping(g, KEPT)


def test_a_budget_that_it_meets_exactly_and_one_below(path):
    g, given = graph("padded"), Given(file=str(path))
    reached = CostModel(g).at({"a.0": 2, "b.0": 3})
    scores = random_scores(g)
    exact = secateur.allocate(g, scores, Budget(params=float(reached.params), macs=1e9), allocator=given)
    assert exact == secateur.allocate(g, scores, allocator=given)
    with pytest.raises(BadBudget, match=rf"plan\.json meets: params {reached.params}, and {reached.params - 1} are"):
        secateur.allocate(g, scores, Budget(params=reached.params - 1.0), allocator=given)
    with pytest.raises(NothingToDo):
        secateur.allocate(g, scores, Budget(macs=1e15), allocator=given)


def test_the_default_is_plan_json_here(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    g = graph("padded")
    assert secateur.allocate(g, random_scores(g), allocator="given").widths(g)["a.0"] == 2
    path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read plan\.json"):
        secateur.allocate(g, random_scores(g), allocator="given")


def test_what_is_refused(path):
    g, given = graph("padded"), Given(file=str(path))
    content = json.loads(path.read_text())
    content["groups"]["a.0"]["keep"] = 12
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match="keep=12 of 10 units"):
        secateur.allocate(g, random_scores(g), allocator=given)
    merge = Merge(group="a.0", units=(0,), into=(3,))
    PlanFile.of(g, Plan(edits=(*Plan.keeping(g, KEPT).edits, merge))).write(path)
    with pytest.raises(PlanError, match="holds 1 foldings or merges"):
        secateur.allocate(g, random_scores(g), allocator=given)


def test_the_whole_sentence(path):
    pruned = secateur.prune(fresh("padded"), ALL["padded"].example, allocator=Given(file=str(path), units="file"))
    assert {name: units.tolist() for name, units in pruned.plan.kept.items()} == KEPT
