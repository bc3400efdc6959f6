"""A study and its runs as plain data; a run is named by a hash of its whole configuration."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from itertools import product
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..cost.budget import Budget
from ..errors import StudyError
from ..methods.base import METHODS, Method
from ..prune import Repair
from ..training.recipe import Recipe

Arm = Literal["dense", "finetune", "scratch-e", "scratch-b"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodSpec(_Data):
    """A method by name, with its options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    def make(self) -> Method:
        """The method. Raises `UnknownName` for it or for an option, `BadOption` for a value."""
        return METHODS.configured(self.name, self.options)

    @property
    def label(self) -> str:
        """`taylor(per_macs=1.0)`."""
        inside = ", ".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.name}({inside})" if inside else self.name

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """From `taylor` or `taylor:per_macs=1,...`; values are read as JSON where they can be."""
        name, _, rest = text.partition(":")
        options = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise StudyError(f"{part!r} in {text!r} is no option; write NAME:OPTION=VALUE")
            try:
                options[key] = json.loads(value)
            except json.JSONDecodeError:
                options[key] = value
        return cls(name=name, options=options)


class Setting(_Data):
    """What all runs of a study share."""

    data: str
    weights: str | None = None  # pretrained weights in place of training the dense model
    train: Recipe
    finetune: Recipe
    calibration: int = Field(default=512, ge=1)  # training images that criteria may look at
    repair: Repair = "none"  # what is done after the cut from the calibration images, without labels
    frozen: tuple[str, ...] = ()


class Run(_Data):
    """One model trained, or one pruned by one method to one budget and recovered in one arm, with one seed."""

    model: str
    arm: Arm
    seed: int
    setting: Setting
    method: MethodSpec | None = None
    budget: str | None = None

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits of a hash of everything above."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def dense(self) -> Run:
        """The run that trains the model this one prunes; methods that work while training have one of their own."""
        trains = self.method is not None and self.method.make().trains
        return Run(
            model=self.model, arm="dense", seed=self.seed, setting=self.setting, method=self.method if trains else None
        )

    @property
    def label(self) -> str:
        """For progress and errors: `digits-resnet taylor macs=0.5 finetune seed 0`."""
        parts = [self.model, self.method.label if self.method else "", self.budget or "", self.arm, f"seed {self.seed}"]
        return " ".join(p for p in parts if p)


class Study(_Data):
    """A table of runs: every combination of what is listed."""

    name: str
    models: tuple[str, ...] = Field(min_length=1)
    methods: tuple[MethodSpec, ...] = Field(min_length=1)
    budgets: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    arms: tuple[Arm, ...] = Field(default=("finetune",), min_length=1)
    setting: Setting

    @model_validator(mode="after")
    def _speaks_our_names(self) -> Study:
        for budget in self.budgets:
            Budget.parse(budget)
        for spec in self.methods:
            spec.make()
        return self

    def runs(self) -> list[Run]:
        """Every run, dense ones first, none twice."""
        made = [
            Run(model=m, method=method, budget=b, seed=s, arm=arm, setting=self.setting)
            for m, b, s, method, arm in product(self.models, self.budgets, self.seeds, self.methods, self.arms)
        ]
        plain = [Run(model=m, arm="dense", seed=s, setting=self.setting) for m in self.models for s in self.seeds]
        needed = {r.key: r for r in [*plain, *(r.dense for r in made)]}
        return [*needed.values(), *made]

    @classmethod
    def read(cls, text: str) -> Study:
        """From JSON. Raises `StudyError` that names the first field that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise StudyError(f"{'.'.join(map(str, first['loc']))} = {first['input']!r}: {first['msg']}") from error
