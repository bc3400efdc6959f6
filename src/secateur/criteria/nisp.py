"""Neuron importance score propagation. Yu, Li, Chen, Lai, Morariu, Han, Gao, Lin, Davis, "NISP: Pruning Networks using
Neuron Importance Score Propagation", CVPR 2018 (1711.05908).

Claim: the error of the features that the classifier reads, weighted by their importance, is bounded by scores carried
back from them through absolute weights; units with small scores can go in every layer at once. The bound holds for
activations that never stretch a difference, as ReLU does not. Departures: the paper ranks the features by Inf-FS, which
is `final="inf-fs"`, with constants of our choice (`evidence.inf_fs`); by default they have mean |x| times the norm of
the classifier's weights, and `evidence.surrogate.propagate` takes any other scores. Of what a network computes with no
linear surrogate, such as attention, there are no scores. The paper lets what it prunes in one layer carry nothing to
the layer before; the method of the same name does so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion

FINAL = {"mean": "final_responses", "inf-fs": "inf_fs_responses"}


@criterion("nisp")
@dataclass(frozen=True)
class NISP(Criterion):
    """s_k = sum over the layers that read unit k of |W|^T s of what they write, from the classifier's inputs back."""

    norms: Literal["identity", "scaled"] = "identity"  # "scaled": batch norms multiply by |gamma| / sqrt(v + eps)
    final: Literal["mean", "inf-fs"] = "mean"  # what the classifier's inputs are worth

    needs = frozenset({"final_responses"})

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "needs", frozenset({self.kind}))

    @property
    def kind(self) -> str:
        """The kind of evidence that holds the scores."""
        return FINAL[self.final]

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where no linear surrogate leads from the group to the last layer."""
        return evidence.of(self.kind, group.name)[self.norms]
