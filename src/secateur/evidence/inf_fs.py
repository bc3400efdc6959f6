"""Infinite feature selection of what the last layer reads. Roffo, Melzi, Cristani, "Infinite Feature Selection",
ICCV 2015.

Features are the nodes of a graph whose edges A_ij = alpha * max(sd_i, sd_j) + (1 - alpha) * (1 - |rho_ij|), with sd
standard deviations and rho Spearman's rank correlation, are large where two features vary and tell different things.
The energy of a feature is that of all paths from it, of every length: row sums of sum over l of (r A)^l =
(I - r A)^-1 - I, which converges as r is 0.9 / (largest eigenvalue of A). Departure: features that never vary have no
edges, as a rank correlation with them says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..groups.graph import Graph
from .base import Sampling, collector
from .nisp import FinalResponses
from .products import Product

ALPHA = 0.5
DAMPING = 0.9  # r times the spectral radius, as in the authors' code


@collector("inf_fs_responses")
class InfFSResponses(FinalResponses):
    """As `final_responses`, with the importance by infinite feature selection, over the first rows that the last layer
    reads, `Sampling.images` at most.
    """

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._rows: list[Tensor] = []
        self._latest: Tensor | None = None

    def see(self, product: Product) -> None:
        """Of a layer that runs twice, the last time counts."""
        left = self.sampling.images - sum(len(r) for r in self._rows)
        rows = product.x.detach().movedim(1, -1).flatten(0, -2)[: max(left, 0)]
        self._latest = rows.to("cpu", torch.float64, copy=True)

    def batch(self, *_: object) -> None:
        """As many more as are wanted."""
        if self._latest is not None:
            self._rows.append(self._latest)
        self._latest = None

    def importance(self, weights: Tensor) -> Tensor | None:
        """(inputs,), from 0 up; None where nothing was seen."""
        rows = torch.cat(self._rows) if self._rows else torch.empty(0)
        return inf_fs(rows) if len(rows) else None


def inf_fs(x: Tensor, alpha: float = ALPHA) -> Tensor:
    """(features,) float64: the energy of each feature of (samples, features), from 0 up."""
    edges = graph_of(x.double(), alpha)
    if not edges.any():
        return torch.zeros(len(edges), dtype=torch.float64)
    return energy(edges, DAMPING / float(torch.linalg.eigvalsh(edges)[-1]))


def energy(edges: Tensor, r: float) -> Tensor:
    """Row sums of (I - r A)^-1 - I, which is the sum of (r A)^l from 1 where r is below 1 / (spectral radius of A)."""
    ones = torch.ones(len(edges), dtype=edges.dtype)
    return torch.linalg.solve(torch.eye(len(edges), dtype=edges.dtype) - r * edges, ones) - ones


def graph_of(x: Tensor, alpha: float) -> Tensor:
    """A, (features, features), of (samples, features) float64."""
    deviation = x.std(0) if len(x) > 1 else torch.zeros_like(x[0])
    varies = (x != x[:1]).any(0)
    edges = alpha * torch.maximum(deviation[:, None], deviation) + (1 - alpha) * (1 - spearman(x).abs())
    return edges * (varies[:, None] & varies)


def spearman(x: Tensor) -> Tensor:
    """(features, features): the correlation of ranks, ties at their mean rank; 0 with a feature that never varies."""
    columns = x.T.contiguous()
    ordered = columns.sort(1).values
    below, upto = (torch.searchsorted(ordered, columns, right=right) for right in (False, True))
    ranks = (below + upto).double()
    ranks -= ranks.mean(1, keepdim=True)
    norms = torch.linalg.vector_norm(ranks, dim=1)
    scaled = ranks / torch.where(norms > 0, norms, 1.0)[:, None]
    return (scaled @ scaled.T).clamp(-1, 1)
