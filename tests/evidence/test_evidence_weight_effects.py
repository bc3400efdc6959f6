"""Effects of weights against gradients written out, and gradients that are freed in turn."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged
from nets import fill, images
from secateur.evidence.base import COLLECTORS
from secateur.evidence.collect import collect
from secateur.evidence.weight_effects import WeightEffects, mean_effect, squares
from secateur.evidence.weight_gradients import WeightSquares


def model():
    layers = nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    return fill(nn.Sequential(*layers)).double().eval()


def data():
    x = images(9, 1, 6, 6).double()
    return [(x[i : i + 3], torch.arange(3)) for i in range(0, 9, 3)]


def test_slices_of_every_axis():
    net = model()
    other, expected = copy.deepcopy(net), {}
    for x, y in data():
        other.zero_grad()
        F.cross_entropy(other(x), y).backward()
        for name, p in other.named_parameters():
            expected[name] = expected.get(name, 0) + (p.detach() * p.grad).square()
    found = collect(secateur.trace(net, data()[0][0]), {"weight_effects"}, batches=data())
    for name, total in expected.items():
        fields = found.of("weight_effects", name)
        assert fields.keys() == {"count", *(f"axis{a}" for a in range(total.dim()))}
        for axis in range(total.dim()):
            by_slice = total.movedim(axis, 0).flatten(1).sum(1) if total.dim() > 1 else total
            torch.testing.assert_close(fields[f"axis{axis}"], by_slice, rtol=1e-12, atol=0)
            torch.testing.assert_close(mean_effect(found, name, axis), by_slice / 3, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(7,), (700, 900), (3, 200_000), (1, 1, 5), (0, 4), ()])
def test_a_part_at_a_time_is_the_whole(shape):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, *shape, generator=generator)
    whole, found = (a.double() * b.double()).square(), squares(a, b)
    assert len(found) == len(shape)
    for axis, sums in enumerate(found):
        rest = [d for d in range(whole.dim()) if d != axis]
        torch.testing.assert_close(sums, whole.sum(rest) if rest else whole)


@pytest.mark.parametrize("kind", [WeightEffects, WeightSquares])
def test_no_gradient_is_held_while_the_next_is_there(kind, monkeypatch):
    """Batches after the first: every parameter as the forward saw it is known then, and has no gradient left."""
    known, seen = {}, []
    before, after = kind.gradient, kind.batch

    def gradient(self, name, g, parameter):
        seen.append((name, [n for n, p in known.items() if p.grad is not None]))
        before(self, name, g, parameter)

    def batch(self, gradients, held):
        assert not gradients
        known.update(held)
        after(self, gradients, held)

    monkeypatch.setattr(kind, "gradient", gradient)
    monkeypatch.setattr(kind, "batch", batch)
    net = model()
    collect(secateur.trace(net, data()[0][0]), {kind.name}, batches=data())
    assert len(seen) == 3 * len(known) == 18
    assert all(not left for _, left in seen)


def test_a_collector_that_fails_in_the_backward_pass_leaves_the_model_alone(monkeypatch):
    def gradient(self, name, g, parameter):
        raise RuntimeError("no more")

    net = model()
    graph = secateur.trace(net, data()[0][0])
    monkeypatch.setattr(COLLECTORS.all()["weight_gradients"], "gradient", gradient)
    with assert_unchanged(net), pytest.raises(RuntimeError, match="no more"):
        collect(graph, {"weight_gradients"}, batches=data())
