import itertools

import pytest
import torch
from pydantic import ValidationError
from torch.optim import SGD, AdamW, lr_scheduler

from secateur.errors import TrainingError
from secateur.training import Recipe


def torch_rates(scheduler, optimizer, steps):
    for step in range(steps):
        if step > 0:
            optimizer.step()
            scheduler.step()
        group = optimizer.param_groups[0]
        yield group["lr"], group.get("momentum", group.get("betas", (None,))[0])


def optimizer_of(kind=SGD, lr=0.3):
    return kind([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def assert_as_torch(recipe, scheduler, optimizer, total, momentum=False):
    rates = list(torch_rates(scheduler, optimizer, total))
    assert [recipe.lr_at(s, total) for s in range(total)] == pytest.approx([lr for lr, _ in rates], rel=1e-6, abs=1e-12)
    if momentum:
        assert [recipe.momentum_at(s, total) for s in range(total)] == pytest.approx([m for _, m in rates], rel=1e-6)


@pytest.mark.parametrize("total", [1, 2, 3, 4, 7, 10, 100, 333])
@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adamw", AdamW)])
def test_onecycle_is_torchs_with_its_momentum(total, name, kind):
    optimizer = optimizer_of(kind)
    recipe = Recipe(epochs=1, lr=0.3, schedule="onecycle", optimizer=name)
    assert_as_torch(
        recipe, lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=total), optimizer, total, momentum=True
    )


@pytest.mark.parametrize("total", [1, 2, 10, 101])
def test_cosine_is_torchs(total):
    optimizer = optimizer_of()
    assert_as_torch(
        Recipe(epochs=1, lr=0.3, schedule="cosine"), lr_scheduler.CosineAnnealingLR(optimizer, total), optimizer, total
    )


def test_steps_are_torchs():
    optimizer = optimizer_of()
    recipe = Recipe(epochs=1, lr=0.3, schedule="steps", milestones=(0.3, 0.55, 0.75), gamma=0.2)
    assert_as_torch(recipe, lr_scheduler.MultiStepLR(optimizer, [30, 55, 75], gamma=0.2), optimizer, 100)


def test_constant_is_constant():
    assert {Recipe(epochs=1, lr=0.3).lr_at(s, 9) for s in range(9)} == {0.3}
    assert {Recipe(epochs=1, momentum=0.8).momentum_at(s, 9) for s in range(9)} == {0.8}


@pytest.mark.parametrize("schedule", ["constant", "steps", "cosine"])
def test_warmup_rises_linearly_to_the_schedule(schedule):
    recipe = Recipe(epochs=1, lr=1.0, schedule=schedule, warmup=0.2)
    rates = [recipe.lr_at(s, 20) for s in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0 < b <= a for a, b in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize("schedule", ["constant", "steps", "cosine", "onecycle"])
@pytest.mark.parametrize("total", [1, 2, 3, 50])
def test_rates_are_positive_and_at_most_lr(schedule, total):
    recipe = Recipe(epochs=1, lr=0.2, schedule=schedule)
    assert all(0 < recipe.lr_at(s, total) <= 0.2 + 1e-12 for s in range(total))


@pytest.mark.parametrize(
    ("epochs", "whole", "pruned", "expected"),
    [  # multiply-accumulates of VGG-16-A, ResNet-56-A, -B, ResNet-110-A, -B on CIFAR (arXiv:1810.05270)
        (160, 313_196_544, 206_143_488, 243),
        (160, 125_485_696, 112_435_840, 178),
        (160, 125_485_696, 90_907_264, 220),
        (160, 252_887_680, 212_779_648, 190),
        (160, 252_887_680, 155_124_352, 260),
    ],
)
def test_scratch_b_epochs(epochs, whole, pruned, expected):
    assert Recipe(epochs=epochs).stretched(whole / pruned).epochs == expected


def test_stretching_keeps_each_stage_its_fraction():
    recipe = Recipe(epochs=40, schedule="steps", lr=0.1)
    longer = recipe.stretched(2.5)
    assert longer == recipe.model_copy(update={"epochs": 100})
    assert [longer.lr_at(s, 1000) for s in range(0, 1000, 10)] == [recipe.lr_at(s, 100) for s in range(100)]
    with pytest.raises(TrainingError, match="factor = -1"):
        recipe.stretched(-1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": -1}, "epochs = -1"),
        ({"epochs": 1.5}, r"epochs = 1\.5"),
        ({}, "epochs"),
        ({"epochs": 1, "lr": 0}, "lr = 0"),
        ({"epochs": 1, "lr": float("nan")}, "lr = nan"),
        ({"epochs": 1, "momentum": 1.0}, r"momentum = 1\.0"),
        ({"epochs": 1, "weight_decay": -0.1}, r"weight_decay = -0\.1"),
        ({"epochs": 1, "batch_size": 0}, "batch_size = 0"),
        ({"epochs": 1, "optimizer": "lion"}, "optimizer = 'lion'.*'sgd' or 'adamw'"),
        ({"epochs": 1, "schedule": "linear"}, "schedule = 'linear'"),
        ({"epochs": 1, "learning_rate": 0.1}, "learning_rate = 0.1"),
        ({"epochs": 1, "milestones": (0.5, 0.5)}, r"milestones = \(0.5, 0.5\)"),
        ({"epochs": 1, "milestones": (80, 120)}, r"milestones = \(80.0, 120.0\).*fractions"),
        ({"epochs": 1, "warmup": 0.1, "schedule": "onecycle"}, "warmup = 0.1"),
        ({"epochs": 1, "nesterov": True, "momentum": 0}, "nesterov"),
        ({"epochs": 1, "nesterov": True, "optimizer": "adamw"}, "nesterov"),
    ],
)
def test_what_makes_no_sense_is_refused_and_quoted(values, words):
    with pytest.raises(TrainingError, match=words):
        Recipe(**values)


def test_a_recipe_is_frozen_and_survives_json():
    recipe = Recipe(epochs=3, lr=0.05, schedule="steps", milestones=(0.2, 0.9), nesterov=True)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    with pytest.raises(ValidationError):
        recipe.lr = 1.0


def test_the_optimizer_has_the_recipes_settings_and_takes_its_rates():
    weights = [torch.nn.Parameter(torch.zeros(1))]
    sgd = Recipe(epochs=1, lr=0.2, weight_decay=0.01, nesterov=True).build(weights)
    group = sgd.param_groups[0]
    assert (type(sgd), group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (
        SGD,
        0.2,
        0.9,
        0.01,
        True,
    )
    recipe = Recipe(epochs=1, lr=0.2, momentum=0.8, optimizer="adamw", schedule="onecycle", weight_decay=0.01)
    adamw = recipe.build(weights)
    group = adamw.param_groups[0]
    assert (type(adamw), group["betas"], group["weight_decay"]) == (AdamW, (0.8, 0.999), 0.01)
    assert recipe.set_rates(adamw, 4, 10) == group["lr"] == recipe.lr_at(4, 10)
    assert group["betas"] == (recipe.momentum_at(4, 10), 0.999)
