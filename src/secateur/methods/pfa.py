"""Principal filter analysis. Suau, Zappella, Apostoloff, "Filter Distillation for Network Compression", WACV 2020
(1807.10585).

Claim: the spectrum of the covariance of a layer's responses says how many filters it needs, in closed form. "energy"
keeps as many as there are eigenvalues in the given part of their sum, the same part in every group; with a budget, the
largest part that meets it. "kl" has no parameter: it keeps 1 - KL(spectrum || uniform) / log(units) of a group, so all
of it where responses are uncorrelated and alike, and one unit where they are multiples of one. A covariance of n
examples has n - 1 eigenvalues that are not zero: give more examples than the widest group has units.

Departures: the part of the energy, which the user chooses in the paper, is 0.95 by default; a group that never varies
keeps one unit; which units go is the criterion's matter ("pfa").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..allocation.base import least_removal
from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..criteria.pfa import PFA
from ..errors import BadBudget, BadOption
from ..evidence.base import Batches, Loss
from ..evidence.covariance import spectrum
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..prune import collect, score
from .base import Method, method

EPS = 1e-12  # of a part of the energy: n equal eigenvalues sum up to n / n with rounding


@method("pfa")
@dataclass(frozen=True)
class PrincipalFilters(Method):
    """As many units as the responses of a group have principal directions; those that correlate least stay."""

    recipe: Literal["energy", "kl"] = "energy"
    energy: float = 0.95
    paper = "Suau et al., WACV 2020 (1807.10585)"
    criterion = PFA()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.energy <= 1:
            raise BadOption(
                f'method "pfa": energy={self.energy!r}: give the part of the energy to keep, above 0, up to 1'
            )

    def plan(
        self,
        graph: Graph,
        budget: Budget | None = None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """Widths from the data, by `energy` or a budget. Raises `NeedsData`, `BadBudget` for one with recipe "kl"."""
        if self.recipe == "kl" and budget is not None:
            raise BadBudget(f'recipe "kl" finds the widths by itself, so that {budget} cannot be met; use "energy"')
        evidence = collect(graph, self.criterion, batches=batches, loss=loss, seed=seed)
        scores = score(graph, self.criterion, evidence=evidence)
        spectra = {g.name: spectrum(g, evidence) for g in graph.groups}
        if self.recipe == "kl":
            widths = {name: kl_width(values) for name, values in spectra.items()}
        elif budget is None:
            widths = {name: energy_width(cumulated(values), self.energy) for name, values in spectra.items()}
        else:
            widths = _meeting(spectra, CostModel(graph), budget)
        rising = {name: torch.argsort(scores[name], stable=True).tolist() for name in widths}
        return Plan.keeping(graph, {name: sorted(rising[name][-width:]) for name, width in widths.items()})


def cumulated(spectrum: Tensor) -> Tensor:
    """(units,) the part of the energy that lies in the first 1, 2, ... eigenvalues; all of it in one where it is 0."""
    total = spectrum.sum()
    return spectrum.cumsum(0) / total if total > 0 else torch.ones_like(spectrum)


def energy_width(parts: Tensor, energy: float) -> int:
    """The fewest eigenvalues that hold this part of the energy."""
    return min(len(parts), int((parts < energy - EPS).sum()) + 1)


def kl_width(spectrum: Tensor) -> int:
    """Units times 1 - KL(spectrum || uniform) / log(units), to the nearest, and at least one."""
    units, total = len(spectrum), spectrum.sum()
    if units == 1 or total <= 0:
        return 1
    share = spectrum / total
    entropy = float(torch.special.entr(share).sum())  # KL = log(units) - entropy
    return max(1, round(units * entropy / torch.tensor(float(units)).log().item()))


def _meeting(spectra: dict[str, Tensor], cost: CostModel, budget: Budget) -> dict[str, int]:
    """The widths of the largest part of the energy that meets the budget."""
    parts = {name: cumulated(values) for name, values in spectra.items()}
    # Widths only change where a part is reached exactly, so these are all the parts there are.
    falling = sorted({float(p) for each in parts.values() for p in each}, reverse=True)

    def widths(step: int) -> dict[str, int]:
        if step == 0:
            return {name: len(each) for name, each in parts.items()}
        return {name: energy_width(each, falling[step - 1]) for name, each in parts.items()}

    return widths(least_removal(len(falling), widths, cost, budget))
