"""He et al. 2017 and ThiNet as methods: which parts, which widths, and what the refit is worth."""

import pytest
import torch

import secateur
from held import batches
from nets import graph
from secateur.allocation.uniform import Uniform
from secateur.criteria.lasso import Lasso
from secateur.criteria.thinet import ThiNet
from secateur.errors import BadBudget, NeedsData
from secateur.methods.base import METHODS

BUDGET = secateur.Budget(macs=0.5)
PARTS = {"he2017": Lasso(), "thinet": ThiNet()}


@pytest.mark.parametrize("name", PARTS)
def test_the_parts(name):
    method = METHODS.make(name)
    assert (method.criterion, method.allocator, method.trains) == (PARTS[name], Uniform(), False)


@pytest.mark.parametrize("name", PARTS)
def test_the_same_fraction_of_every_group_and_the_units_of_the_criterion(name):
    g = graph("digits-vgg")
    data = batches(g.example, 4)
    plan = METHODS.make(name).plan(g, BUDGET, batches=iter(data), seed=3)
    widths = plan.widths(g)
    fractions = [widths[x.name] / x.size for x in g.groups]
    assert max(fractions) - min(fractions) < 0.13  # floor(fraction * size), of groups of at least 8
    evidence = secateur.collect(g, PARTS[name], batches=data, seed=3)
    for group in g.groups:
        scores = PARTS[name].score(group, evidence)
        chosen = PARTS[name].choose(group, evidence, widths[group.name])
        top = scores.argsort(descending=True)[: widths[group.name]] if chosen is None else chosen
        assert plan.kept[group.name].tolist() == sorted(top.tolist())


@pytest.mark.parametrize("name", PARTS)
def test_prune_does_the_same_and_refits(name):
    g = graph("digits-vgg")
    data = batches(g.example, 16)
    options = {"budget": BUDGET, "criterion": PARTS[name], "allocator": "uniform", "batches": data}
    cut, mended = (secateur.prune(g.model, g.example, repair=r, **options) for r in ("none", "reconstruct"))
    assert cut.plan == mended.plan == METHODS.make(name).plan(g, BUDGET, batches=data)
    x = torch.cat([x for x, _ in data])
    with torch.no_grad():
        dense = g.model.eval()(x)
        errors = [float((p.model.eval()(x) - dense).square().sum()) for p in (cut, mended)]
    g.model.train()
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("name", PARTS)
def test_what_is_missing_is_named(name):
    with pytest.raises(NeedsData, match="inputs_gram must be collected"):
        METHODS.make(name).plan(graph("plain"), BUDGET)
    with pytest.raises(BadBudget, match="uniform allocator needs a budget"):
        METHODS.make(name).plan(graph("plain"), None, batches=batches(graph("plain").example))
