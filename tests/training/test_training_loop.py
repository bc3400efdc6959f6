import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateur.errors import TrainingError
from secateur.methods.hook import Hook
from secateur.training import Loader, Recipe, evaluate_accuracy, fit

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1)


@pytest.fixture
def loader(examples):
    return Loader(*examples, batch_size=16)


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_is_the_plain_loop_everyone_writes(new_net, loader):
    def build():
        return nn.Sequential(*(m for m in new_net() if not isinstance(m, nn.Dropout)))

    fitted, plain = build(), build()
    recipe = Recipe(epochs=3, batch_size=16, lr=0.1, schedule="onecycle", weight_decay=0.01)
    history = fit(fitted, loader, recipe)

    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=3 * len(loader))
    losses = []
    for epoch in range(3):
        summed = 0.0
        for x, y in loader.epoch(epoch):
            optimizer.zero_grad()
            loss = F.cross_entropy(plain(x), y)
            loss.backward()
            optimizer.step()
            if scheduler.last_epoch < scheduler.total_steps - 1:
                scheduler.step()
            summed += loss.item() * len(y)
        losses.append(summed / 50)
    for name, tensor in fitted.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert [row.loss for row in history.rows] == pytest.approx(losses, rel=1e-5)


def test_it_learns(net, examples):
    recipe = Recipe(epochs=30, batch_size=16, lr=0.05, schedule="onecycle")
    history = fit(net, Loader(*examples, batch_size=16), recipe, evaluate=lambda m: evaluate_accuracy(m, [examples]))
    assert history.metrics[0] < 0.6 < 0.9 < history.metrics[-1]
    assert history.rows[-1].loss < history.rows[1].loss / 2


def test_same_seed_same_weights_and_another_seed_others(new_net, loader):
    nets = [new_net() for _ in range(3)]
    torch.manual_seed(1)
    first = fit(nets[0], loader, RECIPE, seed=0)
    torch.manual_seed(2)
    second = fit(nets[1], loader, RECIPE, seed=0)
    fit(nets[2], loader, RECIPE, seed=1)  # the same batches, other dropout
    assert equal(nets[0], nets[1])
    assert [row.loss for row in first.rows] == [row.loss for row in second.rows]
    assert not equal(nets[0], nets[2])


def test_the_callers_generators_and_modes_are_as_before(net, loader):
    net.eval()
    net[3].train()
    modes = [module.training for module in net.modules()]
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    fit(net, loader, RECIPE, evaluate=lambda m: m.eval() and torch.rand(1).item())
    assert modes == [module.training for module in net.modules()]
    assert generators == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert all(p.grad is None for p in net.parameters())


def test_training_is_in_train_mode_whatever_the_model_or_an_evaluation_was_in(new_net, loader):
    nets = [new_net(), new_net().eval()]
    fit(nets[0], loader, RECIPE)
    fit(nets[1], loader, RECIPE, evaluate=lambda m: m.eval() and 0.5)
    assert equal(*nets)


def test_modes_and_generators_come_back_after_a_failure_too(net, loader):
    net.eval()
    state = torch.get_rng_state()
    with pytest.raises(TrainingError):
        fit(net, loader, RECIPE, loss=lambda outputs, y: outputs.sum() * float("nan"))
    assert not any(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_that_is_not_finite_names_step_and_loss_and_spares_the_weights(net, loader):
    seen = []

    class Spy(Hook):
        def after_step(self, model, lr):
            seen.append({name: p.detach().clone() for name, p in model.named_parameters()})

    def loss(outputs, y):
        return F.cross_entropy(outputs, y) + (float("inf") if len(seen) == 5 else 0)

    with pytest.raises(TrainingError, match=r"loss is inf at step 5 \(lr 0.1\)"):
        fit(net, loader, RECIPE, loss=loss, hooks=[Spy()])
    assert len(seen) == 5
    assert all(torch.equal(p, seen[-1][name]) for name, p in net.named_parameters())


def test_frozen_parameters_stay_and_a_model_without_trainable_ones_is_refused(net, loader):
    net[0].weight.requires_grad_(False)
    before = net[0].weight.clone()
    fit(net, loader, RECIPE)
    assert torch.equal(net[0].weight, before)
    with pytest.raises(TrainingError, match="nothing to train"):
        fit(net.requires_grad_(False), loader, RECIPE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every = 0"),
        ({"evaluate_every": 0, "evaluate": len}, "evaluate_every = 0"),
        ({"patience": 0, "evaluate": len}, "patience = 0"),
        ({"patience": 3}, "patience = 3 without"),
        ({"recipe": Recipe(epochs=1, batch_size=8)}, "batches of 8 and the loader gives 16"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(net, loader, options, words):
    recipe = options.pop("recipe", RECIPE)
    with pytest.raises(TrainingError, match=words):
        fit(net, loader, recipe, **options)


def test_device_moves_model_and_batches(net, loader):
    fit(net, loader, RECIPE, device="cpu")
    with pytest.raises(
        RuntimeError, match="meta tensors"
    ):  # there the loss has no value, so batch and model did get there
        fit(net, loader, RECIPE, device="meta")


def test_progress_shows_the_run(net, loader, capsys):
    fit(net, loader, RECIPE, progress=True, evaluate=lambda m: 0.5)
    shown = capsys.readouterr().err
    assert "12/12" in shown
    assert "metric 0.5000" in shown
