"""Law 6 on random networks, frozen groups, scores, budgets and options: met, by no unit too many, nested or refused.

1,000 cases of every allocator in turn; unless SECATEUR_FUZZ asks for more, on a few networks whose groups are frozen
at random, which gives as many different costs.
"""

import itertools
import math
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_nets import example, network, sample

import secateur
from allocating import SEARCHING, ready
from secateur.allocation.ranked import Ranked
from secateur.cost.cost import CostModel
from secateur.errors import BadModel, BudgetUnreachable, NothingToDo, TraceError
from secateur.groups.find import Frozen

CASES = 1000
NETS = min(int(os.environ.get("SECATEUR_FUZZ", "48")), CASES)
SHARDS = 4
RETRACED = 10  # one case in so many is cut, and the small model read anew
OPTIONS = ({}, {}, {}, {"min_keep": 2}, {"min_keep": 0.3}, {"max_keep": 0.7}, {"round_to": 2}, {"round_to": 3})


def traced(seed):
    """The graph of a random network that can be pruned, and a list that grows with each forward of it; or None."""
    program = sample(seed)
    model, calls = network(program), []
    try:
        graph = secateur.trace(model, example(program))
    except TraceError:
        return None
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    return (graph, calls) if graph.groups else None


def nets(shard):
    """This shard's part of the first networks that can be pruned."""
    found = filter(None, map(traced, itertools.count(10_000 * (shard + 1))))
    return list(itertools.islice(found, NETS // SHARDS))


def some_frozen(graph, rng):
    """The graph with a random third of its groups frozen, but not all."""
    left = [g for g in graph.groups if rng.random() > 1 / 3] or [graph.groups[0]]
    held = tuple(Frozen(g.name, g.size, "by chance", "") for g in graph.groups if g not in left)
    return replace(graph, groups=tuple(left), frozen=(*graph.frozen, *held))


def random_budget(cost, least, rng):
    """One to three fields, as fractions or amounts; one in ten below the least that there is."""
    dense, reached, fields = cost.dense(), cost.at(least), {}
    for field in rng.choice(["macs", "params", "bytes", "activations"], size=rng.integers(1, 4), replace=False):
        whole, floor = getattr(dense, str(field)), getattr(reached, str(field))
        amount = floor * rng.uniform(0.5, 1) if rng.random() < 0.1 else floor + (whole - floor) * rng.uniform(0, 0.98)
        fields[str(field)] = float(max(2, amount) if rng.random() < 0.5 else max(amount, 1) / whole)
    return fields


def misses(cost, widths, limits):
    reached = cost.at(widths)
    return [f for f, limit in limits.items() if getattr(reached, f) > limit]


def bounds(group, options):
    """The least and the most units, as the options say."""
    low, high = options.get("min_keep", 1), options.get("max_keep", 1.0)
    least = math.ceil(round(low * group.size, 9)) if low < 1 else low
    most = group.size if high == 1.0 else max(1, math.floor(round(high * group.size, 9)))
    return min(max(group.least, least), group.size), most


def widths_of(group, options):
    """All widths that the group may have."""
    (low, high), step = bounds(group, options), options.get("round_to", 1)
    return [w for w in range(low, high + 1) if w % step == 0 or w == group.size] or [high]


class Cases:
    """Runs cases and counts what came out."""

    def __init__(self):
        self.met = self.refused = self.retraced = self.tight = self.nested = 0

    def run(self, number, graph, calls, rng):
        name = SEARCHING[number % len(SEARCHING)]
        options = dict(OPTIONS[rng.integers(len(OPTIONS))])
        allowed = {g.name: widths_of(g, options) for g in graph.groups}
        if any(bounds(g, options)[0] > bounds(g, options)[1] for g in graph.groups):
            return
        self.hold(name, ready(name, graph, **options), graph, calls, allowed, rng, options)

    def hold(self, name, allocator, graph, calls, allowed, rng, options):
        scores = {g.name: torch.from_numpy(rng.random(g.size)) for g in graph.groups}
        cost = CostModel(graph)
        least = {n: w[0] for n, w in allowed.items()}
        fields = random_budget(cost, least, rng)
        budget, before = secateur.Budget(**fields), len(calls)
        try:
            limits = budget.limits(cost.dense())
        except NothingToDo:  # the groups left over make no difference to the field
            return
        try:
            plan = secateur.allocate(graph, scores, budget, allocator=allocator)
        except BudgetUnreachable as error:
            self.unreachable(error, cost, least, limits)
        except BadModel:  # weights that are computed from others have no redundancy
            assert name == "redundancy"
        else:
            self.meets(plan, graph, cost, limits, allowed)
            if isinstance(allocator, Ranked) and name != "legr" and "round_to" not in options:
                self.none_to_spare(allocator, graph, scores, cost, plan, limits, allowed)
            if allocator.nests:
                self.nests(allocator, graph, scores, cost, plan, fields)
            assert len(calls) == before  # planning runs nothing
            if rng.integers(RETRACED) == 0:
                self.really(graph, plan, cost, limits)
        del calls[:]

    def unreachable(self, error, cost, least, limits):
        self.refused += 1
        missed, reached = misses(cost, least, limits), cost.at(least)
        assert missed, error
        told = re.findall(r"(\w+) \S+ asked, at least (\S+) ", str(error))
        assert told == [(f, str(getattr(reached, f))) for f in limits if f in missed]

    def meets(self, plan, graph, cost, limits, allowed):
        self.met += 1
        found = plan.widths(graph)
        assert found.keys() == allowed.keys()
        assert all(w in allowed[n] for n, w in found.items()), (found, allowed)
        assert not misses(cost, found, limits)
        assert not set(plan.kept) & {f.name for f in graph.frozen}

    def none_to_spare(self, allocator, graph, scores, cost, plan, limits, allowed):
        """The last unit that went given back, the budget is missed; what goes before is what options ask for."""
        group, unit = allocator.order(graph, scores, cost)
        most = {n: w[-1] for n, w in allowed.items()}
        kept = [plan.kept.get(g.name, np.arange(g.size)) for g in graph.groups]
        gone = [u not in kept[i] for i, u in zip(group, unit, strict=True)]
        if not misses(cost, most, limits):
            return
        # Of a group of which less may stay than there is, the first to go are no choice of the ranking.
        rank = dict.fromkeys(range(len(graph.groups)), 0)
        last = None
        for i, away in zip(group.tolist(), gone, strict=True):
            rank[i] += 1
            if away and rank[i] > graph.groups[i].size - most[graph.groups[i].name]:
                last = i
        assert last is not None
        wider = plan.widths(graph)
        wider[graph.groups[last].name] += 1
        assert misses(cost, wider, limits)
        self.tight += 1

    def nests(self, allocator, graph, scores, cost, plan, fields):
        """A tighter budget: nothing comes back."""
        tighter = secateur.Budget(**{f: v * 0.8 if v <= 1 else max(2.0, v * 0.8) for f, v in fields.items()})
        try:
            second = secateur.allocate(graph, scores, tighter, allocator=allocator)
        except (BudgetUnreachable, NothingToDo):
            return
        wide, narrow = plan.widths(graph), second.widths(graph)
        assert all(narrow[n] <= w for n, w in wide.items())
        loose, tight = cost.at(wide), cost.at(narrow)
        assert all(getattr(tight, f) <= getattr(loose, f) for f in fields)
        self.nested += 1

    def really(self, graph, plan, cost, limits):
        """The model cut and read anew costs what was promised."""
        small = secateur.cut(graph, plan, verify="off").model
        reached, promised = CostModel(secateur.trace(small, graph.example)).dense(), cost.at(plan.widths(graph))
        for field in ("macs", "params", "bytes"):
            assert getattr(reached, field) == getattr(promised, field)
            assert getattr(reached, field) <= limits.get(field, math.inf)
        self.retraced += 1


@pytest.mark.parametrize("shard", range(SHARDS))
def test_budgets_hold_on_random_networks(shard):
    rng, cases, pool = np.random.default_rng(shard), Cases(), nets(shard)
    for number in range(CASES // SHARDS):
        graph, calls = pool[number % len(pool)]
        cases.run(number, some_frozen(graph, rng), calls, rng)
    ran = cases.met + cases.refused
    assert ran > 0.8 * CASES / SHARDS
    assert cases.met > 0.6 * ran
    assert cases.refused > 0.01 * ran
    assert cases.retraced > 5
    assert cases.tight > 10
    assert cases.nested > 20
