"""Law 2: keeping everything is the identity, bit for bit."""

import pytest
import torch

import secateur
from held import assert_unchanged, same_weights, tensors_of
from nets import ALL, graph
from secateur.graph.example import call, tensors
from secateur.groups.plan import Keep, Plan


@pytest.mark.parametrize("name", ALL)
def test_keeping_everything_changes_nothing(name):
    g = graph(name)
    stated = Plan(edits=tuple(Keep(group=x.name, units=tuple(range(x.size))) for x in g.groups))
    for plan in (Plan(), stated):
        with assert_unchanged(g.model):
            pruned = secateur.cut(g, plan)
        assert same_weights(g.model, pruned.model)
        assert pruned.before == pruned.after
        assert pruned.check.max_error < 1e-13  # both inputs run as one batch, which rounds otherwise
        assert pruned.model is not g.model
        assert all(pruned.model.get_parameter(n) is not p for n, p in g.model.named_parameters())


@pytest.mark.parametrize("name", ["plain", "padded", "twice", "named", "resnet20"])
def test_outputs_are_the_same_bits(name):
    g = graph(name)
    small = secateur.cut(g, Plan()).model
    modes = [m.training for m in g.model.modules()]
    assert [m.training for m in small.modules()] == modes
    with torch.no_grad():
        pairs = zip(tensors(call(g.model.eval(), g.example)), tensors(call(small.eval(), g.example)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    g.model.train()


def test_a_plan_of_whole_groups_needs_no_edits():
    g = graph("padded")
    assert Plan.keeping(g, {x.name: range(x.size) for x in g.groups}) == Plan()
    assert str(Plan()) == "keep everything"


def test_strides_survive():
    g = graph("concat")
    small = secateur.cut(g, Plan()).model
    assert all(tensors_of(small)[n].stride() == t.stride() for n, t in tensors_of(g.model).items())
