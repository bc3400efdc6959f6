"""The contract of a criterion for single weights, and a pattern laid on one weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence, Fields, Loss
from ..registry import Options, Registry
from .layout import Layout
from .pattern import Pattern, Scope, lowest


@dataclass(frozen=True, eq=False)
class Laid:
    """A pattern laid on the weight `name`: what `prune` must keep to."""

    name: str
    pattern: Pattern
    layout: Layout | str
    zeros: int  # how many are zero: of each row where the scope is "row", else of the whole weight
    held: Tensor | None = None  # of the weight's shape, False where it is zero already and stays so

    @property
    def matrix_layout(self) -> Layout:
        """How the weight is multiplied with. Raises `BadModel` where it is no one matrix."""
        if isinstance(self.layout, str):
            raise BadModel(
                f"weight {self.name!r} is no one matrix of outputs and inputs: {self.layout}; exclude={self.name!r}, "
                "or rank it by scope='layer'"
            )
        return self.layout

    def matrix(self, tensor: Tensor) -> Tensor:
        """(outputs, inputs) of a tensor of the weight's shape."""
        return self.matrix_layout.matrix(tensor)

    def tensor(self, matrix: Tensor) -> Tensor:
        """The other way."""
        return self.matrix_layout.tensor(matrix)

    def runs(self) -> tuple[int, int] | None:
        """(zeros, length) of every run of inputs, or None."""
        if self.pattern.of is None or self.pattern.keep is None:
            return None
        return self.pattern.of - self.pattern.keep, self.pattern.of

    def mask(self, scores: Tensor) -> Tensor:
        """True = kept, of the weight's shape: the lowest scores go, of equal ones the first, what was zero before all.

        Raises `BadModel` for scores that are not finite or of another shape.
        """
        scores = ready(scores, self.name, self.held)
        runs = self.runs()
        if runs is not None:
            rows = self.matrix(scores)
            gone = self.tensor(lowest(rows.unflatten(1, (-1, runs[1])), runs[0]).flatten(1))
        elif self.pattern.scope == "row":
            gone = self.tensor(lowest(self.matrix(scores), self.zeros))
        else:
            gone = lowest(scores.flatten(), self.zeros).reshape(scores.shape)
        return ~gone if self.held is None else ~gone & self.held.to(gone.device)


def ready(scores: Tensor, name: str, held: Tensor | None) -> Tensor:
    """Scores that can be ranked, minus infinity where a weight is zero already."""
    if not torch.isfinite(scores).all():
        raise BadModel(f"the scores of weight {name!r} are not finite; exclude={name!r}, or use another criterion")
    scores = scores if scores.dtype.itemsize >= 4 else scores.float()
    return scores if held is None else scores.masked_fill(~held.to(scores.device), -torch.inf)


@dataclass(frozen=True)
class WeightCriterion(Options):
    """Scores single weights: `score(name, evidence) -> (*shape of the weight)`, higher = keep.

    `needs` names the evidence that must be collected first, as of a `Criterion`; `scope` is what its paper ranks.
    `rounds`: how often it is asked anew on the way to the pattern, each time of the model as pruned so far.
    `sequential`: whether what each block reads is taken from a model whose earlier blocks are pruned already.
    `updates`: whether `prune` also changes the weights that are kept, which only one weight after the other can be.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    scope: ClassVar[Scope] = "layer"
    updates: ClassVar[bool] = False
    rounds: ClassVar[int] = 1
    sequential: ClassVar[bool] = False

    @property
    def counts(self) -> bool:
        """Whether the criterion itself says how many weights go, by `threshold`."""
        return False

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape, finite, float32 or float64."""
        raise NotImplementedError(f"{type(self).__name__} does not define score(name, evidence)")

    def scores(self, names: Iterable[str], evidence: Evidence) -> dict[str, Tensor]:
        """Those of several weights that are ranked together."""
        return {name: self.score(name, evidence) for name in names}

    def threshold(self, name: str, evidence: Evidence) -> float | None:
        """Where it `counts`: the score below which weights go."""
        return None

    def prune(self, name: str, evidence: Evidence, pattern: Laid) -> tuple[Tensor, Tensor | None]:
        """(True = kept, the weights after it or None where they stay), both of the weight's shape."""
        return pattern.mask(self.score(name, evidence)), None

    def loss(self, loss: Loss) -> Loss:
        """The loss that evidence is collected with, made from the user's."""
        return loss


UNSEEN = (
    "of products, those of linear layers and of convolutions that are not transposed, with the whole weight, are seen"
)
WEIGHT_CRITERIA: Registry[WeightCriterion] = Registry("weight criterion", __package__)
weight_criterion = WEIGHT_CRITERIA.register


def fields(evidence: Evidence, kind: str, name: str) -> Fields:
    """The evidence of one weight. Raises `BadModel`, and `NeedsData` for a kind that was not collected."""
    if kind in evidence.values and name not in evidence.values[kind]:
        why = evidence.missing.get(kind, {}).get(name, UNSEEN)
        raise BadModel(
            f"weight {name!r} has no {kind}: {why}; exclude={name!r} leaves it dense, criterion='magnitude' needs none"
        )
    return evidence.of(kind, name)


def normalised(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    """Divided by the sum of all absolute values, where that is not 0."""
    total = sum(float(s.abs().sum()) for s in scores.values())
    return {name: s / total for name, s in scores.items()} if total > 0 else scores
