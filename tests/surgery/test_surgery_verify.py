"""Verify and masked execution, on their own."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged, difference, random_plan, run, zeroed
from nets import HAND, OURS, fill, graph, images
from secateur.errors import VerificationError
from secateur.graph.example import tensors
from secateur.graph.replay import AtContractions
from secateur.groups.plan import Plan
from secateur.surgery.mask import along, masked_forward
from secateur.surgery.verify import Check, _relative, double, other_example, verify


@pytest.mark.parametrize("name", HAND | OURS)
def test_masked_execution_is_what_zeroed_weights_give(name):
    g = graph(name)
    plan = random_plan(g, seed=4)
    model, example = copy.deepcopy(g.model).double(), double(g.example)
    with assert_unchanged(model):
        masked = tensors(masked_forward(model, g.trace, example, torch.from_numpy(g.alive(plan.kept))))
    assert difference(run(zeroed(g, plan), g.example), masked) < 1e-12


def test_all_alive_is_the_plain_forward():
    g = graph("padded")
    alive = torch.ones(g.trace.classes.size, dtype=torch.bool)
    model = copy.deepcopy(g.model).eval()
    assert torch.equal(masked_forward(model, g.trace, g.example, alive), model(g.example))


def test_removed_channels_may_hold_anything():
    """0 * inf is NaN: masking must not multiply."""
    g = graph("nonorm")
    model = copy.deepcopy(g.model)
    model.one.bias.data[3] = float("inf")
    keep = Plan.keeping(g, {"one": [0, 1, 2, 4, 5, 6, 7]})
    out = masked_forward(model, g.trace, g.example, torch.from_numpy(g.alive(keep.kept)))
    assert torch.isfinite(out).all()


def test_a_model_that_differs_is_refused_and_the_difference_said():
    g = graph("plain")
    plan = random_plan(g, keep=0.6)
    cut = secateur.cut(g, plan).model
    cut.head.linear.bias.data[0] += 0.01
    with assert_unchanged(g.model, cut), pytest.raises(VerificationError, match=r"relative error .* > 1e-06"):
        verify(g, plan, cut)
    check = verify(g, plan, cut, tolerance=1.0)
    assert 1e-4 < check.max_error < 1
    assert check.tolerance == 1


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_model_that_gives_no_number_is_refused(poison):
    g = graph("plain")
    plan = random_plan(g, keep=0.6)
    cut = secateur.cut(g, plan).model
    cut.head.linear.bias.data[0] = poison
    with pytest.raises(VerificationError):
        verify(g, plan, cut)


def test_a_large_constant_in_the_output_hides_nothing():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.two(torch.relu(self.one(x))) + 1e6

    g = secateur.trace(fill(Offset()), images(2, 12))
    plan = random_plan(g, keep=0.5)
    cut = secateur.cut(g, plan).model
    cut.two.weight.data[0, 0] += 1e-3
    with pytest.raises(VerificationError):
        verify(g, plan, cut)


def test_rounding_is_forgiven_where_the_example_gives_zero():
    """An example of zeros through layers without a bias, or units that are dead for it."""
    zero, other = torch.zeros(2, 3, dtype=torch.float64), images(2, 3).double()
    assert _relative([[zero], [other]], [[zero], [other * (1 + 1e-15)]]) < 1e-9


def test_another_path_is_refused():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.extra, self.times = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 6), 1

        def forward(self, x):
            x = self.one(x)
            for _ in range(self.times):
                x = self.extra(x)
            return self.two(x)

    model = fill(Fickle())
    g = secateur.trace(model, images(2, 4))
    alive = torch.from_numpy(g.alive({}))
    model.times = 2
    with pytest.raises(VerificationError, match="once more"):
        masked_forward(model, g.trace, g.example, alive)
    model.times = 1
    wide = fill(Fickle())
    wide.one, wide.extra, wide.two = nn.Linear(4, 7), nn.Linear(7, 7), nn.Linear(7, 2)
    with pytest.raises(VerificationError, match="another path"):
        masked_forward(wide, g.trace, g.example, alive)


def test_a_shorter_path_is_refused():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.times = nn.Linear(4, 6), nn.Linear(6, 2), 1

        def forward(self, x):
            x = self.two(self.one(x))
            return x @ torch.eye(2, dtype=x.dtype) if self.times else x

    model = fill(Fickle())
    g = secateur.trace(model, images(2, 4))
    model.times = 0
    with pytest.raises(VerificationError):
        masked_forward(model, g.trace, g.example, torch.from_numpy(g.alive({})))


def test_before_and_after_see_each_contraction_once_in_order():
    g = graph("padded")
    seen, given = [], []

    def before(contraction, x):
        seen.append((contraction.path, x.shape[contraction.axis]))
        return x

    def after(contraction, y):
        given.append((contraction.path, y.shape[1]))
        return y

    with AtContractions(g.trace, before, after):
        copy.deepcopy(g.model).eval()(g.example)
    assert seen == [("stem.0", 1), ("a.0", 6), ("b.0", 10), ("head.linear", 10)]
    assert given == [("stem.0", 6), ("a.0", 10), ("b.0", 10), ("head.linear", 10)]


def test_other_example_is_other_and_the_same_each_time():
    x, tokens = images(2, 3), torch.arange(8).reshape(2, 4)
    first, again, seeded = other_example((x, tokens)), other_example((x, tokens)), other_example((x, tokens), seed=1)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], x)
    assert not torch.equal(first[0], seeded[0])
    assert sorted(first[1].flatten().tolist()) == list(range(8))
    assert first[1].dtype == torch.long
    assert other_example(torch.zeros(2, 3)).std() > 0.1  # an example of zeros tells nothing apart


def test_along():
    assert along(torch.zeros(2, 3, 4), 1, torch.arange(3)).shape == (1, 3, 1)


def test_a_check_says_what_was_held_against_what():
    g = graph("plain")
    check = secateur.cut(g, random_plan(g)).check
    assert isinstance(check, Check)
    assert check.reference == "the original with removed units masked"
    assert np.isfinite(check.max_error)


def test_a_difference_at_another_size_alone_is_found():
    class Scaled(nn.Module):
        """Small images go through one more layer."""

        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Linear(6, 3)

        def forward(self, x):
            y = torch.relu(self.one(x))
            if x.shape[2] < 8:
                y = self.two(y)
            return self.head(y.mean((2, 3)) + 0 * self.two(y).mean((2, 3)))

    g = secateur.trace(fill(Scaled()), images(2, 1, 8, 8))
    plan = random_plan(g, keep=0.5)
    cut = secateur.cut(g, plan, verify="off").model
    cut.two.bias.data[0] += 1
    with pytest.raises(VerificationError):
        verify(g, plan, cut)
