"""Optimal brain surgeon by channels, layer by layer. Dong, Chen, Pan, "Learning to Prune Deep Neural Networks via
Layer-wise Optimal Brain Surgeon", NIPS 2017 (1705.07565), after Hassibi and Stork, NIPS 1992.

Claim: with the Gram matrix of a layer's inputs as the Hessian, the same for each output, the saliency is the error that
the layer makes once all other weights are adjusted. Departures: the paper removes single weights; its code ranks them
once and adjusts with the first inverse throughout. Here a unit is all that readers hold of a channel (a block of the
inverse), and after each removal weights and inverse are updated, so that the error is exactly that of a least-squares
refit of the remaining columns. `exact=False` ranks once. The intercept is the paper's extra input for the bias; where
neither a bias nor a norm right behind the layer has a place for it, there is none.

Scores are the relative error of the readers once a unit and all with lower scores are gone and the rest is refitted
(with `exact=False`, once it alone is gone): one scale for all groups, a fraction of what their readers give.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..evidence.contributions import Aimed, layers_of, rising
from ..evidence.least_squares import Elimination, Layer, check_ridge, eliminate, solve
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("obs")
@dataclass(frozen=True)
class OBSChannel(Criterion):
    """s_k = min over V on the kept columns of |x W^T - x V^T|^2 / |y|^2 of the readers when k goes, the least first."""

    exact: bool = True
    intercept: bool = True
    ridge: float = 1e-6  # of the mean diagonal of the inputs' Gram matrix
    needs = frozenset({"weights", "inputs_gram"})
    comparable = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ridge(self.ridge)

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        layers = [_fitted(x, self.ridge) for x in layers_of(group, evidence, intercept=self.intercept)]
        if not layers:
            return rising(torch.arange(group.size), torch.zeros(group.size))
        if self.exact:
            return rising(*eliminate(layers, ridge=self.ridge))
        return torch.stack([Elimination(x, self.ridge).costs() for x in layers]).sum(0)


def _fitted(layer: Aimed, ridge: float) -> Layer:
    """The layer with the weights that bring it nearest to what it shall give, while all units are there."""
    if layer.lacks is None:
        return layer
    return Layer(layer.gram, layer.weight + solve(layer.gram, layer.lacks, ridge).T, layer.columns)
