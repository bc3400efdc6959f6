"""Least-squares reconstruction, held against closed forms and numpy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur import Budget, Plan
from secateur.errors import BadOption, NeedsData
from secateur.evidence.sampling import sampled_rows
from secateur.surgery.reconstruct import reconstruct


def plain(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(80, 3),
    )


def perceptron(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def inputs(n=4, shape=(16, 2, 4, 4), seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(n)]


def test_a_duplicated_channel_is_made_up_for_exactly():
    model = plain().double()
    with torch.no_grad():
        model[0].weight[3] = model[0].weight[1]
        model[0].bias[3] = model[0].bias[1]
    batches = [x.double() for x in inputs()]
    graph = secateur.trace(model, batches[0][:1])
    pruned = secateur.cut(graph, Plan.keeping(graph, {"0": [0, 1, 2, 4, 5]}))
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    assert (pruned.model(x) - model(x)).abs().max() > 1e-2
    reconstruct(graph, pruned.plan, pruned.model, batches, ridge=1e-12)
    assert (pruned.model(x) - model(x)).abs().max() < 1e-8
    assert torch.allclose(pruned.model[2].weight[:, 1], model[2].weight[:, 1] + model[2].weight[:, 3])


def test_a_linear_layer_gets_the_least_squares_fit_of_numpy():
    model = perceptron()
    (x,) = (t.double() for t in inputs(1, (200, 4)))
    graph = secateur.trace(model, x[:1])
    kept = [0, 2, 3, 6]
    pruned = secateur.cut(graph, Plan.keeping(graph, {"0": kept}))
    reconstruct(graph, pruned.plan, pruned.model, [x], ridge=1e-14)
    hidden = np.c_[torch.tanh(model[0](x)).detach().numpy()[:, kept], np.ones(len(x))]
    fit, *_ = np.linalg.lstsq(hidden, model(x).detach().numpy(), rcond=None)
    assert np.allclose(pruned.model[2].weight.detach().numpy(), fit[:-1].T, atol=1e-6)
    assert np.allclose(pruned.model[2].bias.detach().numpy(), fit[-1], atol=1e-6)


def test_the_ridge_pulls_towards_the_weights_as_they_are():
    model = perceptron()
    (x,) = (t.double() for t in inputs(1, (200, 4)))
    graph = secateur.trace(model, x[:1])
    pruned = secateur.cut(graph, Plan.keeping(graph, {"0": [1, 2, 3]}))
    before = pruned.model[2].weight.clone()
    reconstruct(graph, pruned.plan, pruned.model, [x], ridge=1e9)
    assert torch.allclose(pruned.model[2].weight, before, atol=1e-6)


def test_a_layer_without_a_bias_gets_its_intercept_through_the_norm_behind_it():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4)
    ).double()
    model[3].weight.data[:, 2:] = 0.0  # what is cut matters through its mean alone ...
    model[0].weight.data[5] = 0.0  # ... for it is constant
    model[1].bias.data[5] = 2.0
    model[3].weight.data[:, 5] = torch.randn(4, 3, 3)
    batches = [x.double() for x in inputs(4, (16, 2, 7, 7))]
    graph = secateur.trace(model, batches[0][:1])
    pruned = secateur.cut(graph, Plan.keeping(graph, {"0": [0, 1, 2, 3, 4]}))
    reconstruct(graph, pruned.plan, pruned.model, batches, ridge=1e-12)
    x = torch.randn(2, 2, 7, 7, dtype=torch.float64)
    assert (pruned.model.eval()(x) - model.eval()(x)).abs().max() < 1e-8


def test_prune_reconstructs_when_asked_and_comes_nearer_to_the_dense_model():
    model, batches = plain(), inputs(16, (64, 2, 4, 4))
    (x,) = inputs(1, (256, 2, 4, 4), seed=9)
    options = {"budget": Budget(macs=0.6), "batches": [(b, None) for b in batches]}
    before = copy.deepcopy(model.state_dict())
    cut, mended = (secateur.prune(model, x[:1], repair=r, **options).model for r in ("none", "reconstruct"))
    assert (mended(x) - model(x)).square().mean() < 0.8 * (cut(x) - model(x)).square().mean()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_without_batches_and_with_options_that_are_none_it_is_refused():
    model = plain()
    graph = secateur.trace(model, torch.zeros(1, 2, 4, 4))
    with pytest.raises(NeedsData, match="reconstruction needs batches"):
        secateur.prune(model, torch.zeros(1, 2, 4, 4), budget=Budget(macs=0.5), repair="reconstruct")
    with pytest.raises(NeedsData, match="reconstruction needs batches"):
        reconstruct(graph, Plan(), copy.deepcopy(model), [])
    for wrong in ({"ridge": -1e-3}, {"ridge": float("nan")}, {"points": 0}):
        with pytest.raises(BadOption, match=f"{next(iter(wrong))}="):
            reconstruct(graph, Plan(), copy.deepcopy(model), [torch.zeros(1, 2, 4, 4)], **wrong)


class Residual(nn.Module):
    """A stem, a branch that is added to it, through a norm or without, and a head."""

    def __init__(self, norm, place):
        super().__init__()
        bn = nn.BatchNorm2d if norm else lambda n: nn.Identity()
        self.place = place
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.one, self.two, self.n = nn.Conv2d(5, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1, bias=not norm), bn(5)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x):
        x = self.b(torch.tanh(self.a(x)))
        y = self.n(self.two(torch.tanh(self.one(x))))
        if self.place:
            y += x
        else:
            y = x + y
        return y if self.head is None else self.head(y)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("place", [False, True])
def test_the_last_layer_of_a_branch_makes_up_for_what_the_shortcut_lost(norm, place):
    """With more kept inputs than sampled rows every target is met: the sum is exact, not only what the branch gave."""
    torch.manual_seed(0)
    model = Residual(norm, place).double().eval()
    if norm:
        with torch.no_grad():
            model.n.running_var.uniform_(0.5, 2.0)
            model.n.weight.uniform_(0.5, 2.0)
            model.n.bias.uniform_(-1.0, 1.0)
            model.n.running_mean.uniform_(-1.0, 1.0)
    model.head = None
    (x,) = (t.double() for t in inputs(1, (3, 2, 6, 6)))
    graph = secateur.trace(model, x)
    plan = Plan.keeping(graph, {"a": [2], "one": [1, 2, 4, 5]})
    outcome = {}
    for residual in (True, False):
        small = secateur.cut(graph, plan).model
        reconstruct(graph, plan, small, [x], points=8, ridge=1e-13, residual=residual)
        branch = small.n(small.two(torch.tanh(small.one(small.b(torch.tanh(small.a(x)))))))
        dense = model.n(model.two(torch.tanh(model.one(model.b(torch.tanh(model.a(x)))))))
        seen = sampled_rows(torch.stack([branch - dense, small(x) - model(x)], 2).flatten(1, 2), 2, 8, 0, whole=False)
        outcome[residual] = seen.unflatten(1, (-1, 2)).abs().amax((0, 1)).tolist()
    branch, total = outcome[True]
    assert total < 1e-6 < 1e-3 < branch
    branch, total = outcome[False]
    assert branch < 1e-6
    assert total > 1e-3


def test_a_branch_that_something_else_reads_aims_at_what_it_was():
    """Making up for the sum would change what the other reads."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(5, 8), nn.Linear(8, 5)

        def forward(self, x):
            x = self.b(torch.tanh(self.a(x)))
            y = self.two(torch.tanh(self.one(x)))
            return x + y, y * 2

    torch.manual_seed(0)
    model = Shared().double()
    (x,) = (t.double() for t in inputs(1, (40, 4)))
    graph = secateur.trace(model, x[:1])
    plan = Plan.keeping(graph, {"a": [0, 1, 2, 5], "one": [1, 2, 4, 5]})
    each = []
    for residual in (True, False):
        small = secateur.cut(graph, plan).model
        each.append(reconstruct(graph, plan, small, [x], residual=residual).state_dict())
    assert all(torch.equal(each[0][n], each[1][n]) for n in each[0])


def test_of_two_layers_in_one_sum_the_last_makes_up_for_it():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(4, 8), nn.Linear(8, 5)

        def forward(self, x):
            return self.b(torch.tanh(self.a(x))) + self.two(torch.tanh(self.one(x)))

    torch.manual_seed(0)
    model = Parallel().double()
    (x,) = (t.double() for t in inputs(1, (60, 4)))
    graph = secateur.trace(model, x[:1])
    plan = Plan.keeping(graph, {"a": [0, 1, 2, 5], "one": [1, 2, 4, 5]})
    small = secateur.cut(graph, plan).model
    reconstruct(graph, plan, small, [x], ridge=1e-14)
    first = torch.tanh(small.a(x)).detach()

    def fit(rows, target):
        return np.linalg.lstsq(np.c_[rows, np.ones(len(x))], target, rcond=None)[0]

    kept = fit(first, model.b(torch.tanh(model.a(x))).detach())
    assert np.allclose(small.b.weight.detach().numpy(), kept[:-1].T, atol=1e-6)
    rest = model(x).detach() - small.b(first).detach()
    kept = fit(torch.tanh(small.one(x)).detach(), rest)
    assert np.allclose(small.two.weight.detach().numpy(), kept[:-1].T, atol=1e-6)


class Left(nn.Module):
    """Products that torch runs with the weight on the left, in batches, or with exchanged factors."""

    def __init__(self, way):
        super().__init__()
        self.way, self.one, self.two = way, nn.Linear(4, 8), nn.Linear(8, 5)

    def forward(self, x):
        x = torch.tanh(self.one(x))
        if self.way == "left":
            return (self.two.weight @ x.mT).mT
        if self.way == "einsum":
            return torch.einsum("btd,od->bto", x, self.two.weight)
        return self.two(x.transpose(0, 1)).transpose(0, 1)


@pytest.mark.parametrize("way", ["left", "einsum", "positions first"])
@pytest.mark.parametrize("frozen", [False, True])
def test_however_a_product_runs_it_is_refitted_as_numpy_does(way, frozen):
    torch.manual_seed(0)
    model = Left(way).double().requires_grad_(not frozen)
    batches = [t.double() for t in inputs(2, (12, 3, 4))] + [inputs(1, (5, 3, 4), seed=2)[0].double()]
    graph = secateur.trace(model, batches[0][:1])
    plan = Plan.keeping(graph, {"one": [0, 2, 3, 6]})
    small = reconstruct(graph, plan, secateur.cut(graph, plan).model, batches, ridge=1e-14)
    x = torch.cat(batches)
    rows = torch.tanh(model.one(x))[..., [0, 2, 3, 6]].detach().flatten(0, 1).numpy()
    free = way == "positions first"
    rows = np.c_[rows, np.ones(len(rows))] if free else rows
    fit, *_ = np.linalg.lstsq(rows, model(x).detach().flatten(0, 1).numpy(), rcond=None)
    assert np.allclose(small.two.weight.detach().numpy(), (fit[:-1] if free else fit).T, atol=1e-6)
