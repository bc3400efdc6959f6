"""Masks that stay through training, and weights that are rewound to."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import ALL, fresh
from secateur.errors import BadModel, CheckpointError, TrainingError
from secateur.methods.hook import Hook
from secateur.sparsity.hold import Hold, Snapshot, remembered, rewind
from secateur.training import Loader, Recipe, fit

X = torch.randn(24, 12, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 4
LOADER = Loader(X, Y, batch_size=8)


def sparse(seed=0):
    return secateur.sparsify(fresh("mlp", seed), ALL["mlp"].example, sparsity=0.5)


def zeros_hold(model, masks):
    return all(not model.get_parameter(n).detach()[~m].any() for n, m in masks.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_zeros_stay_through_momentum_and_weight_decay(optimizer):
    found = sparse()
    before = {n: found.model.get_parameter(n).detach().clone() for n in found.masks}
    recipe = Recipe(epochs=2, lr=0.05, momentum=0.9, weight_decay=0.1, batch_size=8, optimizer=optimizer)
    fit(found.model, LOADER, recipe, hooks=[found.hold()])
    assert zeros_hold(found.model, found.masks)
    for n, mask in found.masks.items():
        after = found.model.get_parameter(n).detach()
        assert (after[mask] != before[n][mask]).all()


def test_they_come_back_without_the_hook():
    found = sparse()
    fit(found.model, LOADER, Recipe(epochs=1, lr=0.05, batch_size=8))
    assert not zeros_hold(found.model, found.masks)


def test_an_optimizer_that_moved_before_is_held_too():
    """Momentum from before the mask would bring weights back."""
    model = fresh("mlp")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    found = secateur.sparsify(model, ALL["mlp"].example, sparsity=0.5)
    hold = found.hold()
    hold.on_start(model)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        hold.after_backward(model, 0.1)
        assert all(not model.get_parameter(n).grad[~m].any() for n, m in found.masks.items())
        optimizer.step()
        hold.after_step(model, 0.1)
        assert zeros_hold(model, found.masks)


def test_tied_and_frozen_weights_and_gradients_that_are_not_finite():
    tied = secateur.sparsify(fresh("tied"), ALL["tied"].example, sparsity=0.5)
    tied.model.a.weight.requires_grad_(False)
    recipe = Recipe(epochs=1, lr=0.05, weight_decay=0.1, batch_size=8)
    fit(tied.model, Loader(X, Y, batch_size=8), recipe, hooks=[tied.hold()])
    assert tied.model.b.weight is tied.model.c.weight
    assert zeros_hold(tied.model, tied.masks)
    linear = nn.Linear(2, 1)
    hold = Hold({"weight": torch.tensor([[True, False]])})
    linear.weight.grad = torch.tensor([[1.0, torch.inf]])
    hold.after_backward(linear, 0.1)
    assert linear.weight.grad.tolist() == [[1.0, 0.0]]


def test_other_models_are_refused():
    for other, found in ((nn.Linear(3, 2), "absent"), (fresh("tied"), "absent")):
        with pytest.raises(BadModel, match=rf"0\.weight is \(9, 12\) in them, and {found}"):
            sparse().hold().on_start(other)
    with pytest.raises(BadModel, match=r"and \(9, 11\) in this one"):
        sparse().hold().on_start(nn.Sequential(nn.Linear(11, 9)))


def test_a_run_that_is_taken_up_again_has_the_same_masks(tmp_path):
    recipe = Recipe(epochs=1, lr=0.05, batch_size=8)
    one, other = sparse(), sparse(1)
    fit(one.model, LOADER, recipe, hooks=[one.hold()], checkpoint=tmp_path / "run")
    fit(sparse().model, LOADER, recipe, hooks=[sparse().hold()], checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="hooks is"):
        fit(sparse().model, LOADER, recipe, hooks=[other.hold()], checkpoint=tmp_path / "run")


@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_snapshot_is_the_weights_after_so_many_steps(step):
    model, seen = fresh("mlpnorm"), []

    class Each(Hook):
        def on_start(self, model):
            seen.append(remembered(model))

        def after_step(self, model, lr):
            seen.append(remembered(model))

    snapshot = Snapshot(step)
    fit(model, LOADER, Recipe(epochs=2, lr=0.05, batch_size=8), hooks=[Each(), snapshot])
    assert snapshot.tensors.keys() == seen[step].keys() >= {"1.running_mean", "0.weight"}
    assert all(torch.equal(t, seen[step][n]) for n, t in snapshot.tensors.items())


def test_survivors_are_rewound_bit_for_bit():
    found, snapshot = sparse(), Snapshot()
    start = fresh("mlp", 3)
    snapshot.on_start(start)
    with torch.no_grad():
        start[0].weight.zero_()  # what is remembered does not move along
    rewind(found.model, snapshot.tensors, found.masks)
    dense = fresh("mlp", 3)
    for n, p in found.model.named_parameters():
        expected = dense.get_parameter(n) * found.masks[n] if n in found.masks else dense.get_parameter(n)
        assert torch.equal(p, expected)


def test_a_snapshot_that_was_never_taken():
    with pytest.raises(TrainingError, match="stopped after 0 steps, before step 5"):
        _ = Snapshot(5).tensors
    for bad in (-1, 1.5, True):
        with pytest.raises(TrainingError, match="step="):
            Snapshot(bad)
    with pytest.raises(BadModel, match="of another model"):
        rewind(fresh("mlp"), remembered(fresh("tied")))


def test_a_snapshot_survives_a_restart(tmp_path):
    recipe = Recipe(epochs=2, lr=0.05, batch_size=8)
    whole = Snapshot(4)
    fit(fresh("mlp"), LOADER, recipe, hooks=[whole])

    class Killed(Exception):
        pass

    class Dies(Hook):
        def __init__(self, at):
            self.left = at

        def after_step(self, model, lr):
            self.left -= 1
            if self.left == 0:
                raise Killed

    for at in (3, 5):
        path, parts = tmp_path / str(at), Snapshot(4)
        with pytest.raises(Killed):
            fit(fresh("mlp"), LOADER, recipe, hooks=[Snapshot(4), Dies(at)], checkpoint=path, every=1)
        fit(fresh("mlp"), LOADER, recipe, hooks=[parts, Dies(100)], checkpoint=path, every=1)
        assert all(torch.equal(t, whole.tensors[n]) for n, t in parts.tensors.items())


def test_the_state_goes_there_and_back():
    first, second = Snapshot(), Snapshot()
    first.on_start(fresh("mlp"))
    second.load_state_dict(first.state_dict())
    assert second.tensors.keys() == first.tensors.keys()
    assert isinstance(sparse().hold(), Hook)
    assert sparse().hold().state_dict() == {}
