"""How redundant a layer is, from its weights alone: three statistics of its units, 0 = no redundancy. Ours.

With f_k the weights of unit k as one row, O units of d weights, r = min(O, d), u_k = f_k / |f_k|:

    spectral    1 - exp(H(p)) / r, p the eigenvalues of U U^T / O: how far the effective rank falls short
    similar     mean over k of the largest cos^2 between u_k and another row
    magnitude   1 - exp(H(q)) / O, q_k = |f_k|^2 / sum |f|^2: how few units hold the energy

The first two are above 0 by chance: `chance` gives what random Gaussian rows of the same O and d would have, and only
what exceeds it counts, as a share of what could. They do not change when units are permuted or rescaled. A row of zeros
adds no rank and counts as similar. Of coupled layers the rows are joined, each layer scaled to a mean square of 1.

Weights ignore the data: a layer whose inputs span few directions is redundant in ways this cannot see; the eigenvalues
of responses (PFA, Suau et al., 1807.10585) are the counterpart that looks at data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..groups.group import Group
from .base import rows, written

DRAWN = 2**20  # numbers that a chance baseline draws, where one draw has fewer; at most DRAWS times
DRAWS = 64


@dataclass(frozen=True)
class Redundancy:
    """Three statistics in [0, 1), and what two of them are by chance."""

    spectral: float
    similar: float
    magnitude: float
    chance_spectral: float = 0.0
    chance_similar: float = 0.0

    @property
    def spectral_beyond_chance(self) -> float:
        """Share of what is possible above chance."""
        return _beyond(self.spectral, self.chance_spectral)

    @property
    def similar_beyond_chance(self) -> float:
        """Share of what is possible above chance."""
        return _beyond(self.similar, self.chance_similar)

    @property
    def combined(self) -> float:
        """1 - the product of what each of the three leaves."""
        left = (1 - self.spectral_beyond_chance) * (1 - self.similar_beyond_chance) * (1 - self.magnitude)
        return 1 - left


def _beyond(value: float, chance: float) -> float:
    return max(0.0, (value - chance) / (1 - chance)) if chance < 1 - 1e-9 else 0.0


def of_rows(matrix: Tensor, *, seed: int = 0) -> Redundancy:
    """Of one layer: (units, weights of each)."""
    matrix = matrix.to("cpu", torch.float64)
    return of_products(matrix @ matrix.T, matrix.shape[1], matrix, seed=seed)


def of_products(gram: Tensor, width: int, factor: Tensor | None = None, *, seed: int = 0) -> Redundancy:
    """From F F^T, (units, units) float64, of units of `width` weights each; F itself saves time where it is narrow."""
    spectral, similar = _directions(gram, width, factor)
    magnitude = _short(gram.diagonal(), len(gram))
    return Redundancy(spectral, similar, magnitude, *chance(len(gram), width, seed))


def of_layers(group: Group, evidence: Evidence, *, seed: int = 0) -> dict[str, Redundancy]:
    """Of each weight that writes the group, by name. Raises `BadModel` where one is computed from others."""
    names = [str(s.writer.weight) for _, s in written(group, evidence)]
    return {n: of_rows(layer, seed=seed) for n, layer in zip(names, rows(group, evidence), strict=True)}


def of_group(group: Group, evidence: Evidence, *, seed: int = 0) -> Redundancy:
    """Of all weights that write the group, joined. Raises `BadModel`."""
    gram, width, narrow = torch.zeros(group.size, group.size, dtype=torch.float64), 0, list[Tensor]()
    for layer in rows(group, evidence):
        energy = layer.square().mean()
        layer = layer / energy.where(energy > 0, 1.0).sqrt()
        gram += layer @ layer.T
        width += layer.shape[1]
        narrow = [*narrow, layer] if width < group.size else []
    if not width:
        raise BadModel(f"no layer writes group {group.name!r}, so that it has no redundancy; freeze it")
    return of_products(gram, width, torch.cat(narrow, 1) if narrow else None, seed=seed)


def of_kernels(weight: Tensor) -> float:
    """`spectral` of the 2-D kernels of a convolution, (O, I, kh, kw): separable kernels, no removable channels."""
    kernels = weight.detach().to("cpu", torch.float64).reshape(-1, math.prod(weight.shape[2:]))
    sizes = kernels.norm(dim=1, keepdim=True)
    unit = kernels / sizes.where(sizes > 0, 1.0)
    return _short(torch.linalg.eigvalsh(unit.T @ unit), min(unit.shape))


@lru_cache(maxsize=4096)
def chance(units: int, width: int, seed: int = 0) -> tuple[float, float]:
    """(spectral, similar) of Gaussian rows, the mean over draws: many of small layers, one of large ones."""
    rng = np.random.default_rng((seed, units, width))
    draws = min(DRAWS, max(1, DRAWN // (units * units)))
    found = []
    for _ in range(draws):
        factor = _gaussian(units, width, rng)
        found.append(_directions(factor @ factor.T, width, factor))
    return math.fsum(s for s, _ in found) / draws, math.fsum(s for _, s in found) / draws


def _gaussian(units: int, width: int, rng: np.random.Generator) -> Tensor:
    """F of Gaussian rows; for wide rows Bartlett's factor, (units, units), whose F F^T has the same law."""
    if width < units:
        return torch.from_numpy(rng.standard_normal((units, width)))
    factor = np.tril(rng.standard_normal((units, units)), -1)
    np.fill_diagonal(factor, np.sqrt(rng.chisquare(width - np.arange(units))))
    return torch.from_numpy(factor)


def _directions(gram: Tensor, width: int, factor: Tensor | None) -> tuple[float, float]:
    """(spectral, similar), which hang on the directions of the rows alone."""
    units, size = len(gram), gram.diagonal().sqrt()
    scale = size.where(size > 0, 1.0)
    products = cosines = gram / scale / scale[:, None]
    if factor is not None and factor.shape[1] < units:  # the same eigenvalues but for zeros
        unit = factor / scale[:, None]
        products = unit.T @ unit
    spectral = _short(torch.linalg.eigvalsh(products), min(units, width))
    if units == 1:
        return spectral, 0.0
    closest = cosines.square().fill_diagonal_(0).amax(1).clamp(max=1.0).masked_fill(size == 0, 1.0)
    return spectral, float(closest.mean())


def _short(weights: Tensor, most: int) -> float:
    """How far short of `most` weights fall in effect: 1 - exp(entropy of their shares) / most; zeros count as one."""
    share = weights.clamp(min=0)
    share = share / share.sum().where(share.sum() > 0, 1.0)
    return max(0.0, 1 - float(torch.exp(-torch.xlogy(share, share).sum())) / most)
