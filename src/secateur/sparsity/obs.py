"""Optimal brain surgeon on layers. Hassibi, Stork, "Second order derivatives for network pruning: Optimal Brain
Surgeon", NIPS 1992, and, on what each layer gives, Dong, Chen, Pan, "Learning to Prune Deep Neural Networks via
Layer-wise Optimal Brain Surgeon", NIPS 2017 (1705.07565).

Claim: with M the inverse of H = 1/n X^T X, the same for every output of a layer, taking out weight q costs
w_q^2 / (2 M_qq), and the others make up for it by -w_q / M_qq * M_q. `exact`: M is brought up to date after each
weight, so that what is left is the least-squares fit on the remaining inputs. Otherwise, as in the code of the second
paper, weights are ranked once and M stays as it was, so that the update is exact for the first weight of a row alone.
Departures: biases are not refitted; H is damped by a part of its mean diagonal. The exact way takes
rows * weights removed * inputs^2 steps, and is for small layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence
from .base import Laid, WeightCriterion, fields, weight_criterion
from .surgeon import Inverse, chosen, greedy, refit, take_out


@weight_criterion("obs")
@dataclass(frozen=True)
class OBS(WeightCriterion):
    """s_q = w_q^2 / (2 M_qq), the least growth of the squared error of what the layer gives, and the update for it."""

    exact: bool = True
    damping: float = 1e-5
    needs = frozenset({"weights", "product_grams"})
    updates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.damping < float("inf"):
            raise BadOption(f"damping={self.damping!r}: give a number from 0, such as 1e-5")

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """Of the weight's shape: what it costs to take each weight out first."""
        weight = evidence.weight(name).double()
        cost = torch.stack([each.cost for each in self._inverses(name, evidence)]).to(weight.device)
        return weight.square() * cost.flatten()[fields(evidence, "product_grams", name)["columns"].to(weight.device)]

    def prune(self, name: str, evidence: Evidence, pattern: Laid) -> tuple[Tensor, Tensor]:
        """Mask and updated weights."""
        weight, inverses = pattern.matrix(evidence.weight(name).double()), self._inverses(name, evidence)
        parts = list(zip(weight.chunk(len(inverses)), [i.to(weight.device) for i in inverses], strict=True))
        if not self.exact:
            scores = self.score(name, evidence)
            mask = pattern.mask(scores)
            ranked = pattern.matrix(scores).chunk(len(inverses)), (~pattern.matrix(mask)).chunk(len(inverses))
            made = [take_out(w, m, s, gone) for (w, m), s, gone in zip(parts, *ranked, strict=True)]
            return mask, pattern.tensor(torch.cat(made))
        held = torch.ones_like(weight, dtype=torch.bool)
        if pattern.held is not None:
            held = pattern.matrix(pattern.held.to(weight.device))
        found = [greedy(w, m, h, pattern) for (w, m), h in zip(parts, held.chunk(len(inverses)), strict=True)]
        order, cost = (torch.cat(each) for each in zip(*found, strict=True))
        gone = chosen(order, cost, weight.shape[1], pattern) | ~held
        made = [refit(w, m, g) for (w, m), g in zip(parts, gone.chunk(len(inverses)), strict=True)]
        return pattern.tensor(~gone), pattern.tensor(torch.cat(made))

    def _inverses(self, name: str, evidence: Evidence) -> list[Inverse]:
        found = fields(evidence, "product_grams", name)
        return [Inverse.of(gram, int(found["count"]), self.damping) for gram in found["gram"]]
