"""Law 10: same seed, same plan, same weights; the caller's model, its mode and the RNGs are untouched."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import MEETING, WIDE, assert_unchanged, batches, loss, random_plan, same_weights
from nets import ALL, HAND, LIBRARY, OURS, fill, fresh, graph
from secateur.errors import BadModel, PlanError
from secateur.experiments.models.resnet import ResNet
from secateur.surgery.fold import fold_means
from secateur.testing import check_allocator, check_method


def disturbed(name):
    """A model in a state that a careless tool would tidy up: mixed modes, gradients, some weights frozen."""
    model = fresh(name)
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 0)
        if i % 2:
            parameter.grad = torch.full_like(parameter, 0.5)
    return model


@pytest.mark.parametrize("name", [*HAND, *OURS, "resnet18"])
def test_prune_twice(name):
    model, example = disturbed(name), ALL[name].example
    options = {"budget": secateur.Budget(params=0.7), "criterion": "random", "seed": 4}
    with assert_unchanged(model):
        first, second = (secateur.prune(model, example, **options) for _ in range(2))
    assert first.plan == second.plan
    assert same_weights(first.model, second.model)
    other = secateur.prune(model, example, **(options | {"seed": 5}))
    assert other.plan != first.plan or name == "raw"


@pytest.mark.parametrize("criterion", WIDE)
@pytest.mark.parametrize("name", ["plain", "padded", "depthwise", "digits-resnet"])
def test_scores_are_the_same_and_cost_the_model_nothing(criterion, name):
    model, example = disturbed(name), ALL[name].example
    with assert_unchanged(model):
        g = secateur.trace(model, example)
        first, second = (secateur.score(g, criterion, batches=batches(example), loss=loss, seed=1) for _ in range(2))
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_trace_is_the_same_and_costs_the_model_nothing(name):
    model = fresh(name)
    with assert_unchanged(model):
        g = secateur.trace(model, ALL[name].example)
    assert [(x.name, x.size) for x in g.groups] == [(x.name, x.size) for x in graph(name).groups]


@pytest.mark.parametrize("repair", ["none", "fold", "recalibrate", "reconstruct"])
def test_repairs_touch_only_the_small_model(repair):
    model, example = disturbed("padded"), ALL["padded"].example
    options = {"budget": secateur.Budget(macs=0.6), "batches": batches(example), "repair": repair}
    with assert_unchanged(model):
        first, second = (secateur.prune(model, example, **options) for _ in range(2))
    assert same_weights(first.model, second.model)


@pytest.mark.parametrize("allocator", MEETING)
def test_allocators_keep_their_contract(allocator):
    check_allocator(allocator)


NETWORK = {"li2017": (ResNet(9, (16, 32, 64), 10, 1), torch.zeros(1, 1, 8, 8))}  # ResNet-56 on digits


@pytest.mark.parametrize("method", sorted(secateur.methods()))
def test_methods_keep_their_contract(method):
    check_method(method, network=NETWORK.get(method))


@pytest.mark.parametrize("method", sorted(secateur.methods()))
def test_plans_of_methods_are_the_same_and_cost_the_model_nothing(method):
    model, example = disturbed("padded"), ALL["padded"].example
    with assert_unchanged(model):
        g = secateur.trace(model, example)
        chosen = secateur.methods()[method]()
        options = {"batches": batches(example), "loss": loss, "seed": 2}
        if method in NETWORK:  # a predefined network, and this is not it
            with pytest.raises(PlanError, match="convolutions"):
                chosen.plan(g, secateur.Budget(macs=0.6), **options)
        else:
            plans = [chosen.plan(g, secateur.Budget(macs=0.6), **options) for _ in range(2)]
            assert plans[0] == plans[1]


class Noisy(nn.Module):
    """Draws in its own forward, as stochastic layers do."""

    def __init__(self):
        super().__init__()
        self.net = ALL["plain"].build()

    def forward(self, x):
        return self.net(x) + 0 * torch.rand(1)


@pytest.mark.parametrize(
    "step",
    [
        "trace",
        "score",
        "cut",
        "prune",
    ],
)
def test_a_forward_that_draws_does_not_move_the_rng(step):
    model, example = fill(Noisy()), ALL["plain"].example
    g = secateur.trace(model, example)
    steps = {
        "trace": lambda: secateur.trace(model, example),
        "score": lambda: secateur.score(g, "taylor", batches=batches(example), loss=loss),
        "cut": lambda: secateur.cut(g, random_plan(g)),
        "prune": lambda: secateur.prune(model, example, budget=secateur.Budget(macs=0.5)),
    }
    with assert_unchanged(model):
        steps[step]()


def test_the_generators_of_other_devices_are_left_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    secateur.prune(fresh("plain"), ALL["plain"].example, budget=secateur.Budget(macs=0.5))
    assert seeded == []


class Stash(nn.Module):
    """Keeps what it computed on itself, as feature extractors do."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.seen, self.calls = nn.Linear(12, 8), nn.Linear(8, 4), None, 0

    def forward(self, x):
        self.calls = self.calls + 1
        self.seen = F.relu(self.one(x))
        return self.two(self.seen)


def test_a_counter_in_the_forward_is_put_back():
    model = fill(Stash())
    secateur.trace(model, torch.zeros(2, 12))
    assert model.calls == 0
    assert type(model.calls) is int


def test_what_a_forward_keeps_on_the_module_is_put_back():
    model = fill(Stash())
    secateur.trace(model, torch.zeros(2, 12))
    assert model.seen is None


class Counting(nn.Module):
    """Counts its forwards in a buffer, as running averages and codebooks do."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.steps += 1
        return self.two(F.relu(self.one(x)))


@pytest.mark.parametrize("step", ["trace", "cut", "score", "fold"])
def test_buffers_that_a_forward_moves_stay_where_they_are(step):
    model, x = fill(Counting()), torch.zeros(2, 12)
    g = secateur.trace(model, x)
    steps = {
        "trace": lambda: secateur.trace(model, x),
        "cut": lambda: secateur.cut(g, random_plan(g)),
        "score": lambda: secateur.score(g, "taylor", batches=batches(x), loss=loss),
        "fold": lambda: fold_means(g, random_plan(g), [x]),
    }
    with assert_unchanged(model):
        steps[step]()


def test_autocast_around_the_call_changes_nothing():
    model, example = fresh("mlp"), ALL["mlp"].example
    expected = secateur.prune(model, example, budget=secateur.Budget(macs=0.5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = secateur.prune(model, example, budget=secateur.Budget(macs=0.5))
    assert found.plan == expected.plan


def test_a_criterion_that_refuses_leaves_the_model_alone():
    model = disturbed("mlp")
    with assert_unchanged(model), pytest.raises(BadModel):
        secateur.prune(model, ALL["mlp"].example, budget=secateur.Budget(macs=0.5), criterion="bn-scale")
