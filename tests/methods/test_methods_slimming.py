"""Network slimming: steps by hand, zeros that stay zeros, the threshold over all layers."""

import copy

import pytest
import torch
from torch import nn

import secateur
from held import batches
from nets import fill, fresh, graph
from secateur.errors import NeedsData
from secateur.methods.slimming import Slimming, scales

RATE, WEIGHT = 0.1, 0.01


def stepped(method, model, steps=1):
    """Steps of plain SGD whose data gradient is zero."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        sum((p * 0).sum() for p in model.parameters()).backward()
        method.after_backward(model, RATE)
        optimizer.step()
        method.after_step(model, RATE)
    return model


def test_a_step_moves_each_scale_by_its_sign():
    model = fresh("padded")
    model.stem[1].weight.data[:3] = torch.tensor([0.0, -0.4, 1e-4])
    before = copy.deepcopy(model)
    stepped(Slimming(WEIGHT), model)
    for old, new in zip(scales(before), scales(model), strict=True):
        torch.testing.assert_close(new, old - RATE * WEIGHT * old.sign(), rtol=0, atol=1e-7)
    assert model.stem[1].weight[0] == 0  # sign(0) = 0
    others = {n for n, p in before.named_parameters() if not torch.equal(p, model.get_parameter(n))}
    assert others == {"stem.1.weight", "a.1.weight", "b.1.weight"}


def test_sub_gradients_oscillate_and_proximal_steps_reach_zero():
    start = fresh("plain")
    start.one[1].weight.data.fill_(2.5 * RATE * WEIGHT)
    plain, proximal = (stepped(Slimming(WEIGHT, proximal=p), copy.deepcopy(start), 20) for p in (False, True))
    assert (plain.one[1].weight != 0).all()
    assert (plain.one[1].weight.abs() <= RATE * WEIGHT).all()
    assert (proximal.one[1].weight == 0).all()


def test_a_proximal_step_by_hand():
    model = fresh("plain")
    old = torch.tensor([0.5, -0.5, 5e-4, -5e-4, 0.0, 1e-3, -2e-3, 1.0])
    model.one[1].weight.data.copy_(old)
    Slimming(WEIGHT, proximal=True).after_step(model, RATE)
    expected = torch.tensor([0.499, -0.499, 0.0, 0.0, 0.0, 0.0, -1e-3, 0.999])
    torch.testing.assert_close(model.one[1].weight.detach(), expected)


def test_frozen_scales_stay():
    model = fresh("plain")
    model.one[1].weight.requires_grad_(False)
    before = model.one[1].weight.clone()
    stepped(Slimming(WEIGHT), model)
    assert torch.equal(model.one[1].weight, before)


def test_frozen_scales_stay_under_proximal_steps():
    model = fresh("plain")
    model.one[1].weight.requires_grad_(False)
    before = model.one[1].weight.clone()
    Slimming(WEIGHT, proximal=True).after_step(model, RATE)
    assert torch.equal(model.one[1].weight, before)


def test_scales_of_every_batch_norm_once():
    model = fresh("twice")
    assert len(scales(model)) == 1  # run twice, held once
    assert scales(nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.LayerNorm(3))) == []


def test_the_smallest_scales_of_all_layers_go():
    g = graph("digits-vgg")
    plan = Slimming(folds=False).plan(g, secateur.Budget(macs=0.5))
    gammas = {n: s.numpy() for n, s in secateur.score(g, "bn-scale").items()}
    gone = [v for n, s in gammas.items() for i, v in enumerate(s) if n in plan.kept and i not in plan.kept[n]]
    kept = [v for n, s in gammas.items() for i, v in enumerate(s) if n not in plan.kept or i in plan.kept[n]]
    singles = [s[plan.kept[n]].max() for n, s in gammas.items() if n in plan.kept and len(plan.kept[n]) == 1]
    assert max(gone) <= min(set(kept) - set(singles))


def test_all_scales_equal_never_empty_a_layer():
    """A strict threshold would remove everything, as the reference does."""
    model = fresh("digits-vgg")
    for scale in scales(model):
        scale.data.fill_(0.5)
    g = secateur.trace(model, graph("digits-vgg").example)
    for macs in (0.5, 0.1, 0.01):
        plan = Slimming(folds=False).plan(g, secateur.Budget(macs=macs))
        assert min(plan.widths(g).values()) >= 1
        secateur.cut(g, plan)


def test_folding_needs_batches_and_the_reference_does_not():
    g = graph("plain")
    with pytest.raises(NeedsData, match="batches"):
        Slimming().plan(g, secateur.Budget(macs=0.5))
    assert Slimming(folds=False).plan(g, secateur.Budget(macs=0.5)).folds == ()
    assert Slimming().plan(g, secateur.Budget(macs=0.5), batches=batches(g.example)).folds


def test_options():
    method = Slimming(penalty_weight=1e-3, proximal=True)
    assert method.options() == {"penalty_weight": 1e-3, "proximal": True, "folds": True}
    assert Slimming.trains
    assert method.penalty(fill(nn.Linear(2, 2))) is None
