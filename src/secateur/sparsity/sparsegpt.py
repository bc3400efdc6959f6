"""SparseGPT. Frantar, Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", ICML 2023
(2301.00774), algorithm 1.

Claim: walking once over the columns of a weight, each zero made up for by the columns to its right, comes close to
exact least squares at the price of one Cholesky factor. With H = 2/n X^T X + damping and U^T U = H^-1 upper triangular,
the error of w_i is w_i^2 / U_ii^2, and zeroing it adds -w_i / U_ii * U_i: to its row.

Departures: counts are exact (the authors' code takes one weight more a block, and ties); inputs that are always zero go
first, but what is kept of them stays as it is; all is in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence
from .base import Laid, WeightCriterion, fields, weight_criterion
from .walk import chooser, factor, quotas, run_chooser, walk


@weight_criterion("sparsegpt")
@dataclass(frozen=True, kw_only=True)
class SparseGPT(WeightCriterion):
    """s_ij = w_ij^2 / U_jj^2 when column j is reached; the columns to the right make up for what goes."""

    damping: float = 0.01
    block: int = 128
    sequential: bool = True  # type: ignore[misc]  # an option here
    needs = frozenset({"weights", "product_grams"})
    updates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.damping < float("inf") or self.block < 1:
            raise BadOption(f"damping={self.damping!r}, block={self.block!r}: give damping from 0, and block from 1")

    def score(self, name: str, evidence: Evidence) -> Tensor:
        """As if every column were the first to be reached but for those left of it."""
        found = fields(evidence, "product_grams", name)
        diagonal = torch.stack([factor(gram, int(found["count"]), self.damping).diagonal() for gram in found["gram"]])
        weight = evidence.weight(name).double()
        return weight.square() / diagonal.flatten()[found["columns"]].to(weight.device).square()

    def prune(self, name: str, evidence: Evidence, pattern: Laid) -> tuple[Tensor, Tensor]:
        """Mask and updated weights."""
        found = fields(evidence, "product_grams", name)
        weight = pattern.matrix(evidence.weight(name).double())
        gone = torch.zeros_like(weight, dtype=torch.bool)
        if pattern.held is not None:
            gone = ~pattern.matrix(pattern.held.to(weight.device))
        grams, runs = found["gram"], pattern.runs()
        block = self.block if runs is None else max(self.block - self.block % runs[1], runs[1])
        parts = zip(weight.chunk(len(grams)), gone.chunk(len(grams)), quotas(pattern, gone, len(grams)), strict=True)
        masks, made = [], []
        for gram, (w, held, quota) in zip(grams, parts, strict=True):
            choose = chooser(held, quota, block) if runs is None else run_chooser(held, runs[0])
            upper = factor(gram.to(w.device), int(found["count"]), self.damping)
            went, after, _ = walk(w, upper, choose, block, block if runs is None else runs[1])
            masks.append(~went)
            made.append(after)
        return pattern.tensor(torch.cat(masks)), pattern.tensor(torch.cat(made))
