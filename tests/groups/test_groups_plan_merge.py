"""The edit that merges: data that is checked against the graph, chains that are followed to their end, composition."""

import pytest

from nets import graph
from secateur.errors import PlanError, SecateurError, UnknownName
from secateur.groups.plan import Fold, Keep, Merge, Plan

KEEP = Keep(group="a.0", units=(0, 1, 2, 3, 4, 5, 6))


def merge(units=(7, 9), into=(0, 3), factors=(), group="a.0"):
    return Merge(group=group, units=units, into=into, factors=factors)


def test_json_and_back():
    plan = Plan(edits=(KEEP, merge(factors=(1.0, 0.1 + 0.2))))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.merges == {"a.0": plan.edits[1]}
    assert hash(plan) == hash(Plan.model_validate(plan.model_dump()))
    plan.check(graph("padded"))
    assert str(plan) == "a.0: keep 7\na.0: merge 2"


def test_the_factor_is_one_if_not_given():
    assert merge() == merge(factors=(1.0, 1.0))
    assert merge().factors == (1.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"units": (9, 7)}, "rising order"),
        ({"units": (-1, 7)}, "not negative"),
        ({"into": (0,)}, "2 units and into for 1"),
        ({"into": ()}, "2 units and into for 0"),
        ({"factors": (1.0,)}, "2 units and factors for 1"),
        ({"factors": (1.0, float("nan"))}, "finite"),
        ({"factors": (1.0, float("inf"))}, "finite"),
    ],
)
def test_no_such_merge_can_be_made(fields, reason):
    with pytest.raises(PlanError, match=reason):
        merge(**fields)


@pytest.mark.parametrize(
    ("edits", "error", "reason"),
    [
        ((merge(),), PlanError, "unit 7 of group 'a.0' stays, so that it cannot be merged"),
        ((KEEP, merge(units=(6, 7))), PlanError, "unit 6 of group 'a.0' stays, so that it cannot be merged"),
        ((KEEP, merge(units=(7, 10))), PlanError, "has 10 units, the plan asks for unit 10"),
        ((KEEP, merge(into=(0, 8))), PlanError, "merged into unit 8, which does not stay.*Merge.chained"),
        ((KEEP, merge(into=(0, 70))), PlanError, "merged into unit 70, which does not stay"),
        ((KEEP, merge(), merge(units=(8,), into=(1,))), PlanError, "merges units of group 'a.0' twice"),
        ((KEEP, merge(), merge()), PlanError, "merges units of group 'a.0' twice"),
        ((KEEP, merge(group="zzz")), UnknownName, "'zzz'"),
        ((KEEP, merge(group="head.linear")), PlanError, "frozen"),
        (
            (KEEP, merge(), Fold(group="a.0", reader="b.0.weight", units=(8, 9), constants=((0.1,), (0.2,)))),
            PlanError,
            "unit 9 of group 'a.0' is merged and folded",
        ),
    ],
)
def test_what_does_not_fit_the_graph(edits, error, reason):
    with pytest.raises(error, match=reason):
        Plan(edits=edits).check(graph("padded"))


def test_a_fold_that_stays_is_still_a_fold():
    fold = Fold(group="a.0", reader="b.0.weight", units=(4,), constants=((0.1,),))
    with pytest.raises(PlanError, match=r"unit 4 of group 'a\.0' stays, so that it cannot be folded"):
        Plan(edits=(KEEP, fold)).check(graph("padded"))


def test_a_chain_is_followed_to_its_end():
    steps = [(5, 4, 2.0), (9, 5 - 1, 0.5), (4, 3, 3.0), (8, 7, 1.5), (3, 0, 0.25)]
    found = Merge.chained("a.0", steps)
    assert found.units == (3, 4, 5, 8, 9)
    assert found.into == (0, 0, 0, 7, 0)
    assert found.factors == (0.25, 0.75, 1.5, 1.5, 0.375)


def test_a_chain_is_what_its_steps_do_one_by_one():
    weight = {u: {u: 1.0} for u in range(10)}  # what reads each unit, of the dense columns
    steps = [(9, 2, 2.0), (2, 7, -0.5), (1, 7, 3.0), (7, 0, 0.5), (5, 4, 1.0)]
    for unit, into, factor in steps:
        for dense, share in weight.pop(unit).items():
            weight[into][dense] = weight[into].get(dense, 0.0) + factor * share
    found = Merge.chained("a.0", steps)
    for unit, into, factor in zip(found.units, found.into, found.factors, strict=True):
        assert weight[into].pop(unit) == factor
    assert weight == {u: {u: 1.0} for u in weight}


def test_a_unit_goes_once():
    with pytest.raises(PlanError, match=r"unit 3 of group 'a\.0' is merged twice"):
        Merge.chained("a.0", [(3, 4, 1.0), (3, 5, 1.0)])


def test_merges_compose():
    first = Plan(edits=(Keep(group="a", units=(1, 3, 4, 8)), merge((0, 2), (1, 8), (2.0, 3.0), "a")))
    second = Plan(
        edits=(
            Keep(group="a", units=(0, 1)),
            merge((3,), (1,), (5.0,), "a"),
            Keep(group="c", units=(0,)),
            merge((1,), (0,), (7.0,), "c"),
        )
    )
    composed = first.then(second)
    assert composed.kept["a"].tolist() == [1, 3]
    assert composed.merges["a"] == merge((0, 2, 8), (1, 3, 3), (2.0, 15.0, 5.0), "a")
    assert composed.merges["c"] == merge((1,), (0,), (7.0,), "c")


def test_what_was_merged_into_a_unit_that_goes_later_goes_with_it():
    first = Plan(edits=(Keep(group="a", units=(0, 1)), merge((2, 3), (0, 1), (), "a")))
    composed = first.then(Plan(edits=(Keep(group="a", units=(0,)),)))
    assert composed.merges["a"] == merge((2,), (0,), (), "a")
    assert first.then(Plan()) == first
    last = Plan(edits=(Keep(group="a", units=(0,)), merge((1,), (0,), (), "a")))
    assert Plan(edits=(Keep(group="a", units=(0, 1)),)).then(last).merges["a"].into == (0,)


def test_a_later_plan_for_another_model_is_refused():
    first = Plan(edits=(Keep(group="a", units=(1, 3)),))
    with pytest.raises(PlanError, match="that the first leaves none of"):
        first.then(Plan(edits=(Keep(group="a", units=(0,)), merge((2,), (0,), (), "a"))))


def test_fields_that_do_not_exist_are_refused():
    with pytest.raises(SecateurError):
        Plan.model_validate({"edits": [{"edit": "merge", "group": "a", "units": [1], "into": [0], "scale": 2}]})
