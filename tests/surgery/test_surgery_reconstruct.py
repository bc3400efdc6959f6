"""Least-squares reconstruction, held against closed forms and numpy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur import Budget, Plan
from secateur.errors import NeedsData
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


def test_without_batches_it_is_refused():
    model = plain()
    graph = secateur.trace(model, torch.zeros(1, 2, 4, 4))
    with pytest.raises(NeedsData, match="reconstruction needs batches"):
        secateur.prune(model, torch.zeros(1, 2, 4, 4), budget=Budget(macs=0.5), repair="reconstruct")
    with pytest.raises(NeedsData, match="reconstruction needs batches"):
        reconstruct(graph, Plan(), copy.deepcopy(model), [])
