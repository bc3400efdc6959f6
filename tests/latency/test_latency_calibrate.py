"""The fit to whole models."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur.cost.cost import CostModel
from secateur.cost.latency import FEATURES, Latency
from secateur.latency import calibrate
from secateur.latency.tables import measured

TRUE = {"constant": 2.0, "conv": 1.0, "pointwise": 3.0, "gemm": 0.5}


@pytest.fixture(scope="module")
def net():
    layers = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return secateur.trace(
        nn.Sequential(*layers, nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 5)), torch.zeros(2, 3, 9, 9)
    )


@pytest.fixture(scope="module")
def latency(net):
    tables = measured(CostModel(net).timed(net), {}, lambda ops: [float(np.prod(op.lengths)) * 1e-3 for op in ops])
    return Latency("eager", 1, tables)


def test_samples_are_widths_of_the_graph(net):
    found = calibrate.sampled(net, 12, seed=3)
    sizes = {g.name: g.size for g in net.groups}
    assert found[0] == sizes
    assert found[2] == {name: n // 2 for name, n in sizes.items()}
    for widths in found:
        assert all(1 <= widths[name] <= n for name, n in sizes.items())
    assert found == calibrate.sampled(net, 12, seed=3)
    assert found != calibrate.sampled(net, 12, seed=4)
    assert all(n % 16 == 0 or n < 16 for n in found[5].values())


def test_what_each_feature_counts_is_found_again(net, latency):
    """Whole models made of the tables, two kinds of which are off, and of a constant."""
    cost = CostModel(net, latency)
    widths = calibrate.sampled(net, 24, seed=0)
    true = np.array([TRUE.get(name, 0.0) for name in FEATURES])
    ms = np.array([cost.latency_features(w) for w in widths]) @ true
    fitted = calibrate.fitted(latency, cost, widths, ms)
    held_back = calibrate.sampled(net, 12, seed=1)
    after = CostModel(net, fitted)
    errors = [after.at(w).latency_ms / float(cost.latency_features(w) @ true) - 1 for w in held_back]
    before = [cost.at(w).latency_ms / float(cost.latency_features(w) @ true) - 1 for w in held_back]
    assert np.median(np.abs(errors)) < 0.1 < np.median(np.abs(before))
    assert fitted.error < 0.1


def test_tables_that_are_right_are_left_as_they_are(net, latency):
    cost = CostModel(net, latency)
    widths = calibrate.sampled(net, 8, seed=0)
    ms = np.array([cost.at(w).latency_ms for w in widths])
    fitted = calibrate.fitted(latency, cost, widths, ms)
    assert fitted.error < 1e-6
    assert CostModel(net, fitted).dense().latency_ms == pytest.approx(cost.dense().latency_ms)


def test_one_wild_sample_does_not_turn_the_tables_over(net, latency):
    cost = CostModel(net, latency)
    widths = calibrate.sampled(net, 8, seed=0)
    ms = np.array([cost.at(w).latency_ms for w in widths])
    ms[3] *= 4
    dense = CostModel(net, calibrate.fitted(latency, cost, widths, ms)).dense().latency_ms
    assert dense == pytest.approx(cost.dense().latency_ms, rel=0.3)


def test_whole_models_run_at_their_widths(net):
    seen = []
    handle = net.model[2].register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    ms = calibrate.whole_models(net, [{}, {"0": 16, "2": 7}], "eager", 1, rounds=2)
    handle.remove()
    assert ms.shape == (2,)
    assert (ms > 0).all()
    assert {s[1] for s in seen} == {64, 7}
