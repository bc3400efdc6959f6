"""Sensitivity against models that are really cut, and what follows from its curves."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged
from nets import fill, graph, images
from secateur import Budget
from secateur.allocation.curves import Sensitivity, width
from secateur.allocation.uniform import Uniform
from secateur.cost.cost import CostModel
from secateur.errors import (
    BadModel,
    BadOption,
    BudgetUnreachable,
    CheckpointError,
    NeedsData,
    NothingToDo,
    PlanError,
    UnknownName,
)
from secateur.experiments import sensitivity as module
from secateur.experiments.sensitivity import METRICS, Metric, sensitivity
from secateur.training.evaluate import evaluate_accuracy, mean_loss

RATIOS = (0.25, 0.5, 0.8)
HAND = Sensitivity(
    sizes={"a": 10, "b": 10, "c": 4},
    ratios=(0.2, 0.5, 0.8),
    dense={"accuracy": 0.9, "loss": 1.0},
    lower={"accuracy": False, "loss": True},
    values={
        "accuracy": {"a": (0.5, 0.8, 0.88), "b": (0.9, 0.7, 0.91), "c": (0.89, 0.9, 0.9)},
        "loss": {"a": (3.0, 1.5, 0.9), "b": (1.0, 2.0, 1.0), "c": (1.1, 1.1, 1.1)},
    },
)


def batches(count=2, size=8):
    x = images(count * size, 1, 8, 8)
    return [(x[i : i + size], torch.arange(size) % 10) for i in range(0, count * size, size)]


@pytest.fixture(scope="module")
def scored():
    g = graph("padded")
    return g, secateur.score(g, "l1")


@pytest.mark.parametrize("name", ["plain", "padded", "depthwise", "grouped", "squeeze"])
def test_each_value_is_that_of_the_model_cut_in_that_group_alone(name):
    g = graph(name)
    scores, data = secateur.score(g, "l1"), batches()
    found = sensitivity(g, data, scores, RATIOS)
    whole = copy.deepcopy(g.model)
    assert found.dense["accuracy"] == evaluate_accuracy(whole, data)
    assert found.dense["loss"] == pytest.approx(mean_loss(whole, data), rel=1e-6)
    assert found.ratios == RATIOS
    for group in g.groups:
        for i, ratio in enumerate(RATIOS):
            plan = secateur.allocate(g, scores, allocator=Uniform(keep={group.name: ratio}))
            small = secateur.cut(g, plan).model
            assert found.values["accuracy"][group.name][i] == evaluate_accuracy(small, data)
            assert found.values["loss"][group.name][i] == pytest.approx(mean_loss(small, data), rel=1e-5)


def test_batches_count_by_their_examples(scored):
    g, scores = scored
    ((x, y),) = batches(1, 12)
    uneven = [(x[:2], y[:2]), (x[2:], y[2:])]
    one, two = (sensitivity(g, data, scores, [0.5]).values for data in ([(x, y)], uneven))
    for metric in METRICS:
        for name, (value,) in one[metric].items():
            assert two[metric][name][0] == pytest.approx(value, rel=1e-5)


def counting(monkeypatch):
    calls = []

    def counted(graph, held, kept, measures, real=module.measured):
        calls.append(tuple(kept))
        return real(graph, held, kept, measures)

    monkeypatch.setattr(module, "measured", counted)
    return calls


def same(a, b):
    return (a.sizes, a.ratios, a.dense, a.lower, a.values) == (b.sizes, b.ratios, b.dense, b.lower, b.values)


def test_it_goes_on_and_other_ratios_add_to_it(scored, tmp_path, monkeypatch):
    (g, scores), path, calls = scored, tmp_path / "s.safetensors", counting(monkeypatch)
    groups = len(g.groups)
    told = []

    def stop(done, total):
        told.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(g, batches(), scores, [0.5, 0.8], path=path, progress=stop)
    measured = len(calls)
    assert told == [(i, 2 * groups) for i in range(5)]
    first = sensitivity(g, batches(), scores, [0.8, 0.5], path=path)
    assert len(calls) <= measured + 2 * groups - 4
    measured = len(calls)
    more = sensitivity(g, batches(), scores, RATIOS, path=path)
    assert 0 < len(calls) - measured <= groups
    assert same(more, sensitivity(g, batches(), scores, RATIOS))
    measured = len(calls)
    assert same(first, sensitivity(g, batches(), scores, [0.5, 0.8], path=path))
    assert len(calls) == measured
    assert same(more, Sensitivity.load(path, g))


def test_a_width_is_measured_once(monkeypatch):
    calls = counting(monkeypatch)
    g = secateur.trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.zeros(1, 4))
    found = sensitivity(g, [(images(5, 4), torch.arange(5) % 2)], secateur.score(g, "l1"), [0.1, 0.2, 0.4, 0.7, 1.0])
    assert calls == [(), ("0",), ("0",)]  # whole, 1 of 3, 2 of 3
    values = found.values["loss"]["0"]
    assert values[0] == values[1] == values[2]
    assert values[4] == found.dense["loss"]


def test_a_file_of_something_else_is_refused_by_name(scored, tmp_path):
    (g, scores), path = scored, tmp_path / "s.safetensors"
    sensitivity(g, batches(), scores, [0.5], path=path)
    model = copy.deepcopy(g.model)
    with torch.no_grad():
        model.head.linear.bias.add_(1e-6)
    other = secateur.trace(model, g.example)
    lesser = {"accuracy": METRICS["accuracy"]}
    for graph_, data, points, metrics, word in (
        (other, batches(), scores, None, "weights"),
        (g, batches(1), scores, None, "batches"),
        (g, batches(), secateur.score(g, "random"), None, "scores"),
        (g, batches(), scores, lesser, "metrics"),
        (other, batches(1), scores, None, "weights and batches"),
    ):
        with pytest.raises(CheckpointError, match=rf"s\.safetensors was measured on other {word} than these"):
            sensitivity(graph_, data, points, [0.5], metrics=metrics, path=path)
    with pytest.raises(CheckpointError, match="other weights"):
        Sensitivity.load(path, other)
    with pytest.raises(CheckpointError, match="other weights and groups"):
        Sensitivity.load(path, graph("plain"))
    with pytest.raises(CheckpointError, match="missing"):
        Sensitivity.load(tmp_path / "none.safetensors", g)


def test_groups_that_are_frozen_since_are_left_out_and_new_ones_refused(scored, tmp_path):
    (g, scores), path = scored, tmp_path / "s.safetensors"
    sensitivity(g, batches(), scores, [0.5], path=path)
    whole, part = Sensitivity.load(path, g), secateur.trace(g.model, g.example, frozen=["a"])
    left = {x.name for x in part.groups}
    assert left < set(whole.sizes)
    found = Sensitivity.load(path, part)
    assert found.sizes == {name: whole.sizes[name] for name in left}
    assert found.values["loss"] == {name: whole.values["loss"][name] for name in left}
    sensitivity(part, batches(), scores, [0.5], path=tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="other groups"):
        Sensitivity.load(tmp_path / "part.safetensors", g)


def test_a_file_that_has_only_begun_says_so(scored, tmp_path):
    (g, scores), path = scored, tmp_path / "s.safetensors"

    def stop(done, _):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(g, batches(), scores, [0.5], path=path, progress=stop)
    with pytest.raises(CheckpointError, match="no ratio that all groups have yet"):
        Sensitivity.load(path, g)


def test_nothing_is_touched(scored, tmp_path):
    g, scores = scored
    with assert_unchanged(g.model):
        sensitivity(g, batches(), scores, [0.5], path=tmp_path / "s.safetensors")


def test_own_metrics(scored):
    g, scores = scored
    margin = Metric(lambda output, _: output.topk(2).values.diff().abs().mean(), lower=True)
    found = sensitivity(g, [(x, None) for x, _ in batches()], scores, [0.5], metrics={"margin": margin})
    assert set(found.values) == {"margin"}
    assert found.lower == {"margin": True}
    with pytest.raises(UnknownName, match="accuracy"):
        found.keep_for(0.1)


def test_drops_are_losses_whichever_way_a_metric_goes():
    assert HAND.drops()["a"] == pytest.approx((0.4, 0.1, 0.02))
    assert HAND.drops("loss")["a"] == pytest.approx((2.0, 0.5, -0.1))


def test_the_smallest_ratio_from_which_on_none_costs_more():
    """Group b is as good at 0.2 as whole, but not at 0.5: its curve is not trusted below."""
    assert HAND.keep_for(0.0) == {"a": 1.0, "b": 0.8, "c": 0.5}
    assert HAND.keep_for(0.021) == {"a": 0.8, "b": 0.8, "c": 0.2}
    assert HAND.keep_for(0.101) == {"a": 0.5, "b": 0.8, "c": 0.2}
    assert HAND.keep_for(0.3) == {"a": 0.5, "b": 0.2, "c": 0.2}
    assert HAND.keep_for(-0.1) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert HAND.keep_for(0.0, "loss") == {"a": 0.8, "b": 0.8, "c": 1.0}
    assert HAND.keep_for(1.0, "loss") == {"a": 0.5, "b": 0.2, "c": 0.2}


def test_the_mapping_is_one_for_the_uniform_allocator(scored):
    g, scores = scored
    found = sensitivity(g, batches(), scores, RATIOS)
    kept = found.keep_for(0.1)
    assert any(r < 1 for r in kept.values())
    plan = secateur.allocate(g, scores, allocator=Uniform(keep=kept))
    assert plan.widths(g) == {name: width(r, g[name].size) for name, r in kept.items()}
    assert secateur.cut(g, plan).check.max_error < 1e-6


@pytest.mark.parametrize(("ratio", "size"), [(0.29, 100), (0.1, 5), (0.7, 10), (1.0, 3), (1 / 3, 3)])
def test_a_width_is_that_of_the_uniform_allocator(ratio, size):
    g = secateur.trace(nn.Sequential(nn.Linear(2, size), nn.ReLU(), nn.Linear(size, 2)), torch.zeros(1, 2))
    plan = secateur.allocate(g, secateur.score(g, "l1"), allocator=Uniform(keep=ratio))
    assert plan.widths(g)["0"] == width(ratio, size)


def test_one_table_serves_any_budget(scored):
    g, scores = scored
    found, cost = sensitivity(g, batches(), scores), CostModel(g)
    tolerated = sorted({d for drops in found.drops("loss").values() for d in drops})
    for macs in (0.9, 0.7, 0.5, 0.3):
        kept = found.keep_to(g, Budget(macs=macs), "loss")

        def meets(kept, macs=macs):
            widths = {name: width(r, g[name].size) for name, r in kept.items()}
            return cost.at(widths).macs <= macs * cost.dense().macs

        expected = next(k for d in tolerated if meets(k := found.keep_for(d, "loss")))
        assert kept == expected
    with pytest.raises(BudgetUnreachable, match="at least"):
        found.keep_to(g, Budget(macs=1e-4))
    with pytest.raises(NothingToDo):
        found.keep_to(g, Budget(macs=1e12))


def test_what_cannot_be_measured_is_refused(scored):
    g, scores = scored
    for ratios in ([], [0.0], [1.5], [-1]):
        with pytest.raises(BadOption, match="give fractions to keep"):
            sensitivity(g, batches(), scores, ratios)
    with pytest.raises(NeedsData, match="batches are empty"):
        sensitivity(g, [], scores)
    with pytest.raises(PlanError, match="are missing"):
        sensitivity(g, batches(), {}, [0.5])
    x, y = batches(1)[0]
    with pytest.raises(NeedsData, match="the loss of the whole model is nan"):
        sensitivity(g, [(x * float("nan"), y)], scores, [0.5])
    whole = F.cross_entropy(g.model.eval()(x), y).item()
    g.model.train()
    own = {"odd": Metric(lambda output, y: 1.0 if abs(F.cross_entropy(output, y) - whole) < 1e-6 else float("inf"))}
    with pytest.raises(BadModel, match=rf"with group '{g.groups[0].name}' pruned the odd is inf"):
        sensitivity(g, [(x, y)], scores, [0.5], metrics=own)


def test_a_net_that_is_random_keeps_its_ratios_rising():
    """Ratios are taken as a set and in order, numbers as they are written."""
    g = secateur.trace(fill(nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2))), torch.zeros(1, 4))
    found = sensitivity(g, [(images(6, 4), torch.arange(6) % 2)], secateur.score(g, "l1"), (0.9, 0.1, 0.5, 0.5))
    assert found.ratios == (0.1, 0.5, 0.9)
    assert found.sizes == {"0": 9}
