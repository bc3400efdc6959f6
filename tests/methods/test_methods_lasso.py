"""He et al. 2017 and ThiNet as methods: which parts, which widths, and what the refit is worth."""

import pytest
import torch

import secateur
from held import batches, same_weights
from nets import graph
from secateur.allocation.uniform import Uniform
from secateur.criteria.lasso import Lasso
from secateur.criteria.thinet import ThiNet
from secateur.errors import BadBudget, BadOption, NeedsData, UnknownName
from secateur.methods.base import METHODS
from secateur.methods.layerwise import layerwise
from secateur.prune import mend
from secateur.testing import check_method

BUDGET = secateur.Budget(macs=0.5)
PARTS = {"he2017": Lasso(), "thinet": ThiNet()}


def at_once(name):
    """The method without its sequence."""
    return METHODS.configured(name, {"sequential": False})


@pytest.mark.parametrize("name", PARTS)
def test_the_parts(name):
    method = METHODS.make(name)
    assert (method.criterion, method.allocator, method.trains) == (PARTS[name], Uniform(), False)
    assert method.options() == {"per_macs": 0.0, "sequential": True} | ({"refit": "full"} if name == "thinet" else {})


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("net", ["plain", "padded", "concat"])
def test_the_sequential_plan_is_that_of_layerwise_and_with_the_repair_so_is_the_network(name, net):
    g = graph(net)
    data = batches(g.example, 8)
    expected = layerwise(g.model, g.example, data, criterion=PARTS[name], budget=BUDGET, seed=2)
    plan = METHODS.make(name).plan(g, BUDGET, batches=iter(data), seed=2)
    assert plan == expected.plan
    pruned = secateur.cut(g, plan)
    mend(g, pruned, [x for x, _ in data], "reconstruct")
    assert same_weights(pruned.model, expected.model)


@pytest.mark.parametrize("name", PARTS)
def test_the_sequence_changes_what_is_chosen(name):
    g = graph("digits-vgg")
    data = batches(g.example, 4)
    budget = secateur.Budget(macs=0.4)
    plans = [method.plan(g, budget, batches=data) for method in (METHODS.make(name), at_once(name))]
    assert plans[0].widths(g) == plans[1].widths(g)
    assert plans[0] != plans[1]


@pytest.mark.parametrize("name", PARTS)
def test_the_groups_of_the_graph_that_is_handed_in_and_no_others(name):
    model, example = graph("flat").model, graph("flat").example
    data, budget = batches(example, 4), secateur.Budget(macs=0.8)
    whole = secateur.trace(model, example)
    assert {x.kind for x in whole.groups} == {"channel", "neuron"}
    some = secateur.trace(model, example, frozen=["one"], kinds=("channel",))
    assert [x.name for x in some.groups] == ["two"]
    plan = METHODS.make(name).plan(some, budget, batches=data)
    assert set(plan.kept) == {"two"}
    found = layerwise(model, example, data, criterion=PARTS[name], budget=budget, frozen=["one"], kinds="channel")
    assert found.plan == plan


def test_the_published_form_of_thinet_scales_on_the_way():
    g = graph("digits-vgg")
    data = batches(g.example, 4)
    options = {"criterion": "thinet", "budget": BUDGET, "refit": "scale"}
    plan = METHODS.configured("thinet", {"refit": "scale"}).plan(g, BUDGET, batches=data)
    assert plan == layerwise(g.model, g.example, data, **options).plan
    assert plan != METHODS.make("thinet").plan(g, BUDGET, batches=data)
    with pytest.raises(BadOption, match="refit='half'"):
        METHODS.configured("thinet", {"refit": "half"})
    with pytest.raises(UnknownName, match="refit 'half'"):
        layerwise(g.model, g.example, data, **options | {"refit": "half"})


@pytest.mark.parametrize("name", PARTS)
def test_the_contract(name):
    check_method(name)


@pytest.mark.parametrize("name", PARTS)
def test_the_same_fraction_of_every_group_and_the_units_of_the_criterion(name):
    g = graph("digits-vgg")
    data = batches(g.example, 4)
    plan = at_once(name).plan(g, BUDGET, batches=iter(data), seed=3)
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
    assert cut.plan == mended.plan == at_once(name).plan(g, BUDGET, batches=data)
    x = torch.cat([x for x, _ in data])
    with torch.no_grad():
        dense = g.model.eval()(x)
        errors = [float((p.model.eval()(x) - dense).square().sum()) for p in (cut, mended)]
    g.model.train()
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("name", PARTS)
def test_what_is_missing_is_named(name):
    with pytest.raises(NeedsData, match="inputs_gram must be collected"):
        at_once(name).plan(graph("plain"), BUDGET)
    with pytest.raises(NeedsData, match=r"layer by layer, .* none were given"):
        METHODS.make(name).plan(graph("plain"), BUDGET)
    with pytest.raises(BadBudget, match="uniform allocator needs a budget"):
        METHODS.make(name).plan(graph("plain"), None, batches=batches(graph("plain").example))
