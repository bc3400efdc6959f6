"""Law 7: tighter budgets nest: what a looser budget removes, a tighter one removes too."""

import pytest

import secateur
from held import MEETING
from nets import HAND, OURS, graph
from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.cost.cost import CostModel
from secateur.errors import BudgetUnreachable, NothingToDo
from secateur.testing.allocator import random_scores

ALLOCATORS = [
    *(n for n in MEETING if secateur.allocators()[n].nests),
    Ranked(per_macs=1.0),
    Ranked(min_keep=0.3),
    Ranked(normalise="scope"),
    Uniform(per_macs=0.5),
]


@pytest.mark.parametrize("allocator", ALLOCATORS, ids=str)
@pytest.mark.parametrize("name", HAND | OURS)
def test_tighter_budgets_nest(allocator, name):
    g, scores = graph(name), random_scores(graph(name))
    whole = {x.name: set(range(x.size)) for x in g.groups}
    for field in ("macs", "params"):
        wider = whole
        for fraction in (0.95, 0.8, 0.65, 0.5, 0.35, 0.2):
            try:
                plan = secateur.allocate(g, scores, secateur.Budget(**{field: fraction}), allocator=allocator)
            except (NothingToDo, BudgetUnreachable):
                continue
            kept = whole | {n: set(units.tolist()) for n, units in plan.kept.items()}
            assert all(kept[n] <= wider[n] for n in whole)
            wider = kept


def test_ties_nest_too():
    """All scores equal: the ranking is still total."""
    g = graph("digits-resnet")
    scores = {x.name: random_scores(g)[x.name] * 0 + 1 for x in g.groups}
    sizes = []
    wider = {x.name: set(range(x.size)) for x in g.groups}
    for fraction in (0.9, 0.7, 0.5, 0.3, 0.1):
        plan = secateur.allocate(g, scores, secateur.Budget(macs=fraction))
        kept = {x.name: set(plan.kept.get(x.name, range(x.size))) for x in g.groups}
        assert all(kept[n] <= wider[n] for n in kept)
        wider = kept
        sizes.append(CostModel(g).at(plan.widths(g)).macs)
    assert sizes == sorted(sizes, reverse=True)
