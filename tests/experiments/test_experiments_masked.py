"""Measuring with units masked: which batches, how they are weighed, what a measure may give."""

import pytest
import torch

import secateur
from held import run, zeroed
from nets import graph, images
from secateur import Plan
from secateur.errors import BadOption, NeedsData
from secateur.experiments.masked import Held, masked_loss, measured, weighted
from secateur.training.evaluate import mean_loss


def test_batches_are_read_once_and_counted():
    def stream():
        yield torch.zeros(3, 2), torch.zeros(3)
        yield {"scale": torch.tensor(2.0), "x": torch.zeros(5, 2)}, None
        yield (torch.tensor(1.0),), None

    held = Held.of(stream())
    assert held.examples.tolist() == [3, 5, 1]
    assert len(held.pairs) == 3
    with pytest.raises(NeedsData, match="batches are empty"):
        Held.of([])


def test_the_fingerprint_is_of_every_bit():
    x, y = images(4, 3), torch.arange(4)
    same, prints = Held.of([(x.clone(), y.clone())]).fingerprint(), set()
    assert Held.of([(x, y)]).fingerprint() == same
    close = x.clone()
    close[2, 1] = torch.nextafter(close[2, 1], torch.tensor(9.0))
    for batches in ([(x, y)], [(close, y)], [(x, y.flip(0))], [(x, y.float())], [(x[:2], y[:2]), (x[2:], y[2:])]):
        prints.add(Held.of(batches).fingerprint())
    assert len(prints) == 5


def test_a_mean_over_batches_is_one_over_examples():
    values = torch.tensor([[1.0, 4.0], [0.0, 8.0]])
    assert weighted(values, torch.tensor([3.0, 1.0])).tolist() == [1.75, 2.0]


def test_groups_that_are_not_named_stay_whole():
    g = graph("padded")
    batches, sums = [(images(2, 1, 8, 8), 3.0), (images(1, 1, 8, 8), 5.0)], (lambda o, y: o.sum() * y, lambda o, _: 7)
    name, kept = g.groups[0].name, [0, 2]
    for given in ({}, {name: kept}):
        found = measured(g, Held.of(batches), given, sums)
        reference = zeroed(g, Plan.keeping(g, given))
        expected = [float(run(reference, x)[0].sum()) * y for x, y in batches]
        assert found[0].tolist() == pytest.approx(expected, rel=1e-4)
        assert found[1].tolist() == [7, 7]
        assert found.dtype == torch.float64


def test_a_measure_is_one_number():
    g = graph("plain")
    with pytest.raises(BadOption, match=r"\(2, 10\) numbers a batch; give their mean"):
        measured(g, Held.of([(images(2, 1, 8, 8), None)]), {}, [lambda output, _: output])


def test_the_masked_loss_of_a_plan_is_the_loss_of_the_model_cut_by_it():
    g = graph("padded")
    data = [(images(6, 1, 8, 8), torch.arange(6) % 10), (images(2, 1, 8, 8), torch.arange(2))]
    objective = masked_loss(g, data)
    plan = secateur.allocate(g, secateur.score(g, "l1"), secateur.Budget(macs=0.5))
    for chosen in (plan, secateur.Plan()):
        assert objective(chosen) == pytest.approx(mean_loss(secateur.cut(g, chosen).model, data), rel=1e-5)
    assert masked_loss(g, data, lambda output, _: output.new_ones(()))(plan) == 1.0
    with pytest.raises(NeedsData, match="empty"):
        masked_loss(g, [])
