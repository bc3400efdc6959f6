"""Sensitivity: the ratios of a table, by hand and by brute force, from a file and from the registry."""

import itertools

import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged, labelled
from nets import graph
from secateur.allocation.base import ALLOCATORS
from secateur.allocation.by_sensitivity import BySensitivity
from secateur.allocation.curves import Sensitivity
from secateur.cli.inputs import made
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BudgetUnreachable, CheckpointError, NeedsData, NothingToDo, UnknownName
from secateur.experiments.sensitivity import sensitivity
from secateur.testing import check_allocator
from secateur.testing.allocator import random_scores
from secateur.testing.networks import built_in, network

WAYS = ["drop", "greedy"]
BUDGETS = [{"macs": 0.8}, {"macs": 0.5}, {"params": 0.6}, {"macs": 0.7, "params": 0.5}]


@pytest.fixture(scope="module")
def chain():
    """MACs 10a + ab + 10b, whole 300."""
    g = secateur.trace(
        nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10)), torch.zeros(1, 10)
    )
    assert CostModel(g).dense().macs == 300
    return g


def table(a, b, ratios=(0.2, 0.5, 0.8)):
    values = {"0": tuple(0.9 - x for x in a), "2": tuple(0.9 - x for x in b)}
    return Sensitivity({"0": 10, "2": 10}, ratios, {"accuracy": 0.9}, {"accuracy": False}, {"accuracy": values})


def widths(g, allocator, **fields):
    return tuple(
        secateur.allocate(g, random_scores(g), secateur.Budget(**fields), allocator=allocator).widths(g).values()
    )


HAND = table((0.4, 0.1, 0.02), (0.3, 0.05, 0.04))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (299, (8, 10)),  # 260 at a drop of 0.02
        (260, (8, 10)),
        (259, (8, 8)),  # 224 at 0.04
        (223, (8, 5)),  # 170 at 0.05
        (169, (5, 5)),  # 125 at 0.1
        (124, (5, 2)),  # 80 at 0.3
        (79, (2, 2)),  # 44 at 0.4
    ],
)
def test_the_least_drop_tolerated_by_hand(chain, limit, expected):
    assert widths(chain, BySensitivity(table=HAND), macs=limit) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        # 0 to 8 saves 40 for 0.02, 2 to 8 saves 40 for 0.04.
        (299, (8, 10)),
        # Then 0 to 5 saves 60 for 0.08, 2 to 8 36 for 0.04: 1.33 and 1.11 a thousand.
        (259, (8, 8)),
        # 0 to 5 saves 54 for 0.08, 2 to 5 saves 54 for 0.01.
        (223, (8, 5)),
        # 0 to 5 saves 45 for 0.08, 2 to 2 saves 54 for 0.25.
        (169, (5, 5)),
        # 0 to 2 saves 45 for 0.3, 2 to 2 saves 45 for 0.25.
        (124, (5, 2)),
        (79, (2, 2)),
    ],
)
def test_the_greedy_steps_by_hand(chain, limit, expected):
    assert widths(chain, BySensitivity(table=HAND, by="greedy"), macs=limit) == expected


def test_greedy_weighs_what_is_saved_where_a_tolerance_does_not():
    """A wide group at a small price and a narrow one at a smaller: the first saves fifty times as much."""
    g = secateur.trace(
        nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 2), nn.ReLU(), nn.Linear(2, 2)),
        torch.zeros(1, 100),
    )
    values = {"0": (0.1,), "2": (0.05,)}
    held = Sensitivity({"0": 100, "2": 2}, (0.5,), {"loss": 0.0}, {"loss": True}, {"loss": values})
    for by, expected in (("drop", (50, 1)), ("greedy", (50, 2))):
        assert widths(g, BySensitivity(table=held, metric="loss", by=by), macs=0.6) == expected


def all_steps(g, held, cost, fields, budget):
    """Greedy without a queue: every step taken anew each time."""
    dense, limits = cost.dense(), budget.limits(cost.dense())
    at = {x.name: [x.size, *(max(1, int(r * x.size + 1e-9)) for r in held.ratios[::-1])] for x in g.groups}
    worst = {n: list(itertools.accumulate([0.0, *d[::-1]], max)) for n, d in held.drops().items()}
    place = dict.fromkeys(at, 0)

    def now(**moved):
        return cost.at({n: at[n][(place | moved)[n]] for n in at})

    while any(getattr(now(), f) > v for f, v in limits.items()):
        rates = []
        for i, n in enumerate(at):
            if place[n] + 1 < len(at[n]):
                saved = sum(
                    (getattr(now(), f) - getattr(now(**{n: place[n] + 1}), f)) / getattr(dense, f) for f in fields
                )
                rates.append(((worst[n][place[n] + 1] - worst[n][place[n]]) / saved, -saved, i, n))
        place[min(rates)[-1]] += 1
    return {n: at[n][place[n]] for n in at}


@pytest.mark.parametrize("fields", BUDGETS, ids=str)
def test_the_queue_gives_what_taking_every_step_anew_gives(fields):
    g = graph("digits-resnet")
    cost, generator = CostModel(g), torch.Generator().manual_seed(0)
    for _ in range(5):
        rising = {
            x.name: (
                0.9 - torch.rand(4, generator=generator, dtype=torch.float64).sort(descending=True).values
            ).tolist()
            for x in g.groups
        }
        held = Sensitivity(
            {x.name: x.size for x in g.groups},
            (0.25, 0.5, 0.625, 0.75),
            {"accuracy": 0.9},
            {"accuracy": False},
            {"accuracy": {n: tuple(v) for n, v in rising.items()}},
        )
        budget = secateur.Budget(**fields)
        plan = secateur.allocate(g, random_scores(g), budget, allocator=BySensitivity(table=held, by="greedy"))
        assert plan.widths(g) == all_steps(g, held, cost, fields, budget)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A real table of a real net, and its file."""
    g, path = graph("digits-resnet"), tmp_path_factory.mktemp("s") / "sensitivity.safetensors"
    found = sensitivity(g, labelled(g.example), secateur.score(g, "l1"), (0.1, 0.25, 0.5, 0.75), path=path)
    return g, found, path


def test_a_file_gives_what_keep_to_gives(stored):
    g, found, path = stored
    for share in (0.8, 0.5, 0.3):
        budget = secateur.Budget(macs=share)
        allocator = BySensitivity(file=str(path), metric="loss")
        plan = secateur.allocate(g, random_scores(g), budget, allocator=allocator)
        assert plan.widths(g) == found.widths(g, found.keep_to(g, budget, "loss"))


@pytest.mark.parametrize("by", WAYS)
def test_tighter_budgets_nest_and_are_met(stored, by):
    g, found, _ = stored
    cost, scores = CostModel(g), random_scores(g)
    for field in ("macs", "params"):
        wider = {x.name: x.size for x in g.groups}
        for share in (0.95, 0.8, 0.65, 0.5, 0.35):
            budget = secateur.Budget(**{field: share})
            allocator = BySensitivity(table=found, metric="loss", by=by)
            plan = secateur.allocate(g, scores, budget, allocator=allocator)
            assert getattr(cost.at(plan.widths(g)), field) <= budget.limits(cost.dense())[field]
            assert all(width <= wider[n] for n, width in plan.widths(g).items())
            wider = plan.widths(g)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("name", sorted(built_in()))
def test_the_contract_with_a_file_made_for_the_network(name, by, tmp_path):
    """The check runs on a copy in float64 with norms of its own; the file is of that."""
    net = network(name, *built_in()[name])
    g, path = secateur.trace(net.model, net.example), tmp_path / "s.safetensors"
    with assert_unchanged(net.model):
        sensitivity(g, net.batches, secateur.score(g, "l1"), (0.02, 0.3, 0.6, 0.9), path=path)
    check_allocator(BySensitivity(file=str(path), by=by), network=built_in()[name])


def test_by_name_and_from_the_command_line(stored):
    g, _, path = stored
    with pytest.raises(NeedsData, match="give file="):
        secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.5), allocator="sensitivity")
    typed = made(ALLOCATORS, f"sensitivity:file={path},metric=loss,by=greedy,min_keep=2", "--allocator")
    assert typed == BySensitivity(file=str(path), metric="loss", by="greedy", min_keep=2)
    plan = secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.5), allocator=typed)
    assert min(plan.widths(g).values()) >= 2


def test_options_and_frozen_groups(stored):
    g, _, path = stored
    part = secateur.trace(g.model, g.example, frozen=[g.groups[1].name])
    for by in WAYS:
        allocator = BySensitivity(file=str(path), metric="loss", by=by, round_to=4, min_keep=6, max_keep=0.9)
        plan = secateur.allocate(part, random_scores(part), secateur.Budget(macs=0.6), allocator=allocator)
        assert g.groups[1].name not in plan.kept
        for name, width in plan.widths(part).items():
            assert width % 4 == 0 or width == 6
            assert 6 <= width <= 0.9 * part[name].size


@pytest.mark.parametrize("by", WAYS)
def test_what_is_refused(stored, by):
    g, found, path = stored
    ours = BySensitivity(table=found, by=by)
    with pytest.raises(BudgetUnreachable, match="at least"):
        widths(g, ours, macs=1e-4)
    with pytest.raises(NothingToDo):
        widths(g, ours, macs=1e12)
    with pytest.raises(BadBudget, match="needs a budget"):
        secateur.allocate(g, random_scores(g), allocator=ours)
    with pytest.raises(UnknownName, match="metric"):
        widths(g, BySensitivity(table=found, by=by, metric="margin"), macs=0.5)
    with pytest.raises(CheckpointError, match="other weights and groups"):
        widths(graph("plain"), BySensitivity(file=str(path), by=by), macs=0.5)
    with pytest.raises(CheckpointError, match="missing"):
        widths(g, BySensitivity(file="no.safetensors", by=by), macs=0.5)
