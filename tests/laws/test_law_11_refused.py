"""Law 11: what is refused is refused before anything changed, with the reason. In place, where a change would show."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, batches, random_plan
from nets import ALL, Head, conv_bn, fill, fresh, graph
from secateur.errors import (
    BadBudget,
    BadModel,
    BudgetUnreachable,
    NeedsData,
    NothingToDo,
    PlanError,
    SurgeryError,
    UnknownName,
)
from secateur.groups.plan import Fold, Keep, Plan

HALF = {"budget": secateur.Budget(macs=0.5)}
REFUSED = [
    ({"budget": secateur.Budget(macs=1e-6)}, BudgetUnreachable, "at least"),
    ({"budget": secateur.Budget(params=1e9)}, NothingToDo, "nothing to do"),
    ({}, BadBudget, "needs a budget"),
    (HALF | {"criterion": "tailor"}, UnknownName, "'taylor'"),
    (HALF | {"allocator": "rank"}, UnknownName, "'ranked'"),
    (HALF | {"frozen": ["nothing*"]}, UnknownName, r"'nothing\*'"),
    (HALF | {"criterion": "taylor"}, NeedsData, "batches"),
    (HALF | {"criterion": "taylor", "batches": []}, NeedsData, "empty"),
    (HALF | {"repair": "fold"}, NeedsData, "batches"),
    (HALF | {"repair": "recalibrate"}, NeedsData, "batches"),
    (HALF | {"repair": "reconstruct", "batches": []}, NeedsData, "batches"),
    (HALF | {"repair": "pray"}, UnknownName, "repair 'pray'"),
]


@pytest.mark.parametrize(("options", "error", "reason"), REFUSED)
def test_refused_in_place(options, error, reason):
    model = fresh("padded")
    with assert_unchanged(model), pytest.raises(error, match=reason):
        secateur.prune_(model, ALL["padded"].example, **options)


def bad_plans():
    keep = Keep(group="stem.0", units=(0, 1))
    fold = {"group": "stem.0", "reader": "a.0.weight", "units": (2,), "constants": ((0.5,),)}
    return {
        "no such unit": (Plan(edits=(Keep(group="stem.0", units=(0, 6)),)), PlanError, "has 6 units.*unit 6"),
        "no such group": (Plan(edits=(Keep(group="stem", units=(0,)),)), UnknownName, "'stem.0'"),
        "twice": (Plan(edits=(keep, keep)), PlanError, "twice"),
        "frozen": (Plan(edits=(Keep(group="head.linear", units=(0,)),)), PlanError, "is frozen: reaches"),
        "not read": (Plan(edits=(keep, Fold(**(fold | {"reader": "b.0.weight"})))), PlanError, "does not read"),
    }


@pytest.mark.parametrize("case", bad_plans())
def test_refused_plans(case):
    plan, error, reason = bad_plans()[case]
    g = graph("padded")
    with assert_unchanged(g.model), pytest.raises(error, match=reason):
        secateur.cut(g, plan)


FOLDS = {
    "a reader that does not exist": {"reader": "zzz", "units": (2,), "constants": ((0.5,),)},
    "units that do not exist": {"units": (9,), "constants": ((0.5,),)},
    "units in no order": {"units": (9, 0), "constants": ((0.5,), (0.5,))},
    "negative units": {"units": (-1,), "constants": ((0.5,),)},
    "units that stay": {"units": (0,), "constants": ((0.5,),)},
    "too many constants": {"units": (2,), "constants": ((0.5, 0.5),)},
    "constants that are not finite": {"units": (2,), "constants": ((float("nan"),),)},
}


@pytest.mark.parametrize("case", FOLDS)
def test_refused_foldings(case):
    g = graph("padded")
    keep = Keep(group="stem.0", units=(0, 1, 3, 4))
    fields = {"group": "stem.0", "reader": "a.0.weight"} | FOLDS[case]
    with pytest.raises(PlanError):
        secateur.cut(g, Plan(edits=(keep, Fold(**fields))))


def test_a_grouped_reader_cannot_be_folded_into():
    g = graph("grouped")
    fold = Fold(group="stem.0", reader="grouped.0.weight", units=(2,), constants=((0.5, 0.5, 0.5, 0.5),))
    with assert_unchanged(g.model), pytest.raises(SurgeryError, match="grouped convolution"):
        secateur.cut(g, Plan(edits=(Keep(group="stem.0", units=(0, 1)), fold)))


def test_a_reader_without_bias_or_norm_cannot_be_folded_into():
    g = graph("mlp")
    fold = Fold(group="0", reader="2.weight", units=(2,), constants=((0.5,),))
    with assert_unchanged(g.model), pytest.raises(SurgeryError, match="no bias and no batch norm"):
        secateur.cut(g, Plan(edits=(Keep(group="0", units=(0, 1)), fold)))


class Half(nn.Module):
    """Pads by half of what it has: no number of channels left makes an arbitrary cut of the padding fit."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 8), conv_bn(12, 6), Head(6)

    def forward(self, x):
        x = self.one(x)
        _, channels, _, _ = x.size()
        return self.head(self.two(F.pad(x, (0, 0, 0, 0, 0, channels // 2))))


def test_an_int_that_cannot_follow_freezes_what_it_decides():
    model = fill(Half())
    reason = "a padding is computed in a way that a cut cannot follow"
    g = secateur.trace(model, ALL["plain"].example)
    assert [x.name for x in g.groups] == ["two.0"]
    assert ("one.0", 8, reason) in [(f.name, f.size, f.reason) for f in g.frozen]
    with assert_unchanged(model), pytest.raises(PlanError, match=f"group 'one.0' is frozen: {reason}"):
        secateur.cut(g, Plan(edits=(Keep(group="one.0", units=(0, 1, 2, 3)),)))
    with assert_unchanged(model):
        assert secateur.cut(g, random_plan(g, keep=0.5)).check.max_error < 1e-9


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("tensor", ["stem.0.weight", "b.1.running_var"])
def test_weights_that_are_not_finite(poison, tensor):
    model = fresh("padded")
    model.state_dict()[tensor].view(-1)[3] = poison
    with assert_unchanged(model), pytest.raises(BadModel, match=f"{tensor} holds NaN or infinity"):
        secateur.prune_(model, ALL["padded"].example, **HALF)


def test_a_loss_that_is_not_finite():
    model = fresh("plain")
    bad = [(x * float("inf"), y) for x, y in batches(ALL["plain"].example)]
    options = HALF | {"criterion": "taylor", "batches": bad, "loss": lambda out, _: out.sum()}
    with assert_unchanged(model), pytest.raises(NeedsData, match="batch 0 gives a loss of"):
        secateur.prune_(model, ALL["plain"].example, **options)


class Alone(nn.Module):
    """Cannot be copied, as models that hold locks or handles cannot."""

    def __init__(self):
        super().__init__()
        self.net = ALL["plain"].build()

    def forward(self, x):
        return self.net(x)

    def __deepcopy__(self, memo):
        raise TypeError("a lock cannot be copied")


def test_a_model_that_cannot_be_copied_is_refused_by_name():
    model = fill(Alone())
    with assert_unchanged(model), pytest.raises(BadModel, match="cannot be copied"):
        secateur.prune(model, ALL["plain"].example, **HALF)


def test_an_example_of_zeros_is_not_held_against_the_cut():
    model = fill(nn.Sequential(nn.Linear(32, 64, bias=False), nn.ReLU(), nn.Linear(64, 9, bias=False)))
    pruned = secateur.prune(model, torch.zeros(2, 32), **HALF)
    assert pruned.check.max_error <= 1e-6
    assert pruned.after.macs <= pruned.before.macs / 2


def test_a_failing_forward_leaves_no_hook_and_no_mode_behind():
    model = fresh("padded")
    before = len(nn.modules.module._global_forward_pre_hooks), len(nn.modules.module._global_forward_hooks)
    with assert_unchanged(model), pytest.raises(RuntimeError, match="channels"):
        secateur.trace(model, torch.zeros(2, 5, 8, 8))
    assert before == (len(nn.modules.module._global_forward_pre_hooks), len(nn.modules.module._global_forward_hooks))
    assert type(torch.ones(1) + 1) is torch.Tensor
    secateur.cut(graph("padded"), random_plan(graph("padded")))
