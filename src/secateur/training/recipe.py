"""How long and with which rates to train: plain data, and closed forms in place of scheduler objects."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from torch import Tensor, optim

from secateur.errors import TrainingError

# torch.optim.lr_scheduler.OneCycleLR, its defaults.
RISE, FIRST_DIVISOR, LAST_DIVISOR, LOW_MOMENTUM, HIGH_MOMENTUM = 0.3, 25.0, 1e4, 0.85, 0.95


class Recipe(BaseModel):
    """An optimizer and its rates over a run.

    `momentum` is beta1 under "adamw". `milestones` and `warmup` are fractions of the run, so a longer run stretches
    each stage. Schedules: "constant"; "steps", the rate times `gamma` at each milestone; "cosine", down to 0;
    "onecycle", Smith and Topin's (arXiv:1708.07120) as in torch's OneCycleLR with its defaults, which also moves the
    momentum from 0.95 to 0.85 and back, whatever `momentum` says. Under `warmup` the rate first rises linearly.

    Raises TrainingError, quoting the value, for a recipe that makes no sense.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(ge=0)
    lr: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    nesterov: bool = False
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    schedule: Literal["constant", "steps", "cosine", "onecycle"] = "constant"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    warmup: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="wrap")
    @classmethod
    def _speak_our_language(cls, values: Any, build: ModelWrapValidatorHandler[Recipe]) -> Recipe:
        try:
            return build(values)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
            raise TrainingError(f"this recipe makes no sense: {'; '.join(faults)}.") from error

    @model_validator(mode="after")
    def _parts_agree(self) -> Recipe:
        stages = (0.0, *self.milestones, 1.0)
        if not all(a < b for a, b in pairwise(stages)):
            raise TrainingError(
                f"milestones = {self.milestones!r}: they are rising fractions of the run, within (0, 1)."
            )
        if self.nesterov and (self.optimizer == "adamw" or self.momentum == 0):
            raise TrainingError(
                f"nesterov with {self.optimizer} and momentum = {self.momentum}: it needs sgd with momentum."
            )
        if self.warmup and self.schedule == "onecycle":
            raise TrainingError(
                f"warmup = {self.warmup} with onecycle: this schedule rises on its own; leave warmup at 0."
            )
        return self

    def lr_at(self, step: int, total: int) -> float:
        """The learning rate of step `step`, counted from 0, of a run of `total` steps."""
        if self.schedule == "onecycle":
            first = self.lr / FIRST_DIVISOR
            return _one_cycle(step, total, first, self.lr, first / LAST_DIVISOR)
        warm = round(self.warmup * total)
        if step < warm:
            return self.lr * (step + 1) / (warm + 1)
        if self.schedule == "steps":  # rounded, for 0.55 * 100 > 55 in floating point
            return self.lr * self.gamma ** sum(step >= round(m * total) for m in self.milestones)
        if self.schedule == "cosine":
            return _cosine(self.lr, 0.0, (step - warm) / (total - warm))
        return self.lr

    def momentum_at(self, step: int, total: int) -> float:
        """The momentum (beta1 under "adamw") of step `step` of `total`: `momentum`, but for "onecycle"."""
        if self.schedule == "onecycle":
            return _one_cycle(step, total, HIGH_MOMENTUM, LOW_MOMENTUM, HIGH_MOMENTUM)
        return self.momentum

    def stretched(self, factor: float) -> Recipe:
        """The same recipe over int(epochs * factor) epochs, each stage keeping its fraction of the run.

        This is Scratch-B of Liu et al., "Rethinking the value of network pruning" (arXiv:1810.05270), where `factor` is
        the cost of the whole model over the cost of the pruned one.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise TrainingError(f"factor = {factor!r}: a run is stretched by a positive number, such as 2.0.")
        return Recipe(**{**self.model_dump(), "epochs": int(self.epochs * factor)})

    def build(self, parameters: list[Tensor]) -> optim.Optimizer:
        """The optimizer, without rates that change: those are set at each step from `lr_at` and `momentum_at`."""
        if self.optimizer == "adamw":
            return optim.AdamW(parameters, lr=self.lr, betas=(self.momentum, 0.999), weight_decay=self.weight_decay)
        return optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov)

    def set_rates(self, optimizer: optim.Optimizer, step: int, total: int) -> float:
        """Set the optimizer to the rates of step `step` of `total`; returns the learning rate."""
        lr, momentum = self.lr_at(step, total), self.momentum_at(step, total)
        rates = {"momentum": momentum} if self.optimizer == "sgd" else {"betas": (momentum, 0.999)}
        for group in optimizer.param_groups:
            group.update(lr=lr, **rates)
        return lr


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _one_cycle(step: int, total: int, start: float, top: float, end: float) -> float:
    peak = RISE * total - 1  # a fractional step: torch places it so
    if step <= peak:
        return _cosine(start, top, step / peak)
    return _cosine(top, end, (step - peak) / (total - 1 - peak))
