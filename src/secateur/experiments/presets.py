"""Studies that come with the package."""

from __future__ import annotations

from ..errors import UnknownName
from ..training.recipe import Recipe
from .config import MethodSpec, Setting, Study

DIGITS_TRAIN = Recipe(epochs=10, lr=0.1, batch_size=64, weight_decay=5e-4, nesterov=True, schedule="onecycle")
DIGITS_FINETUNE = Recipe(epochs=4, lr=0.02, batch_size=64, weight_decay=5e-4, nesterov=True, schedule="onecycle")
METHODS = ("random", "l1", "l2", "taylor", "slimming:penalty_weight=0.001")


def _demo() -> Study:
    return Study(
        name="demo",
        models=("digits-resnet",),
        methods=tuple(MethodSpec.parse(m) for m in METHODS),
        budgets=("macs=0.5",),
        seeds=(0, 1, 2),
        arms=("finetune", "scratch-e"),
        setting=Setting(data="digits", train=DIGITS_TRAIN, finetune=DIGITS_FINETUNE),
    )


PRESETS = {"demo": _demo}


def preset(name: str) -> Study:
    """A study by name. Raises `UnknownName`."""
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]()
