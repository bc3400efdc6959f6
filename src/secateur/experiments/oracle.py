"""The oracle: what the loss really does when one unit alone is gone, I_m = (E(D, W) - E(D, W | w_m = 0))^2.

Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR 2019 (1906.10771).
A unit is masked, not cut: nothing reads it, and all else is as it was. Criteria are held against it in `correlation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import BadModel, BadOption, NeedsData, PlanError
from ..evidence.base import Batches, Loss, fingerprint
from ..groups.graph import Graph
from ..groups.scores import Scores
from ..ledger import Ledger, Progress
from ..training.fingerprint import describe
from ..training.seeds import child_seed
from .masked import Held, measured, weighted

KIND = "table of loss changes"
DENSE = ("", "")


@dataclass(frozen=True, eq=False)
class Oracle:
    """Loss changes of units left out one at a time, in the order of the graph."""

    units: tuple[tuple[str, int], ...]  # (group, unit)
    losses: Tensor  # (units, batches) float64, without the unit
    dense: Tensor  # (batches,) float64, of the whole model
    examples: Tensor  # (batches,) float64

    @property
    def dense_loss(self) -> float:
        """The mean over all examples, of the whole model."""
        return float(weighted(self.dense, self.examples))

    @property
    def change(self) -> Tensor:
        """(units,) loss without the unit minus that of the whole model; negative: the model is better off without."""
        return weighted(self.losses - self.dense, self.examples)

    @property
    def absolute(self) -> Tensor:
        """(units,)."""
        return self.change.abs()

    @property
    def squared(self) -> Tensor:
        """(units,) the importance of the paper."""
        return self.change.square()

    def of(self, scores: Scores) -> Tensor:
        """(units,) the scores of the units that were measured. Raises `PlanError` where a group has none."""
        for name, _ in self.units:
            if name not in scores:
                raise PlanError(f"there are no scores of group {name!r}, whose units the oracle measured")
        return torch.stack([scores[name][unit] for name, unit in self.units])


def sample(
    graph: Graph, count: int | None = None, *, seed: int = 0, stratified: bool = True
) -> tuple[tuple[str, int], ...]:
    """`count` units to leave out, or all: (group, unit) in the order of the graph, a function of the seed.

    `stratified`: each group gives its share, within one unit; else all units are drawn alike. A larger sample holds
    the smaller ones of the same seed. A group whose only unit must stay gives none.
    Raises `BadOption` for a count below 1, and `BadModel` where no unit may go.
    """
    if count is not None and count < 1:
        raise BadOption(f"a sample of {count} units: give 1 or more, or None for all")
    drawn: list[tuple[float, float, str, int]] = []
    for group in (g for g in graph.groups if g.size > g.least):
        generator = torch.Generator().manual_seed(child_seed(seed, "oracle", group.name))
        order = torch.randperm(group.size, generator=generator).tolist()
        chance = torch.rand(group.size, generator=generator, dtype=torch.float64).tolist()
        # The i-th unit of a group of n comes when (i + a half) / n of all are drawn: so each group gives its share.
        keys = [(i + 0.5) / group.size if stratified else chance[i] for i in range(group.size)]
        drawn += [(key, tie, group.name, unit) for key, tie, unit in zip(keys, chance, order, strict=True)]
    if not drawn:
        raise BadModel("no group has a unit that may go; `secateur inspect` says what is frozen, and why")
    place = {g.name: i for i, g in enumerate(graph.groups)}
    chosen = [(name, unit) for _, _, name, unit in sorted(drawn)[:count]]
    return tuple(sorted(chosen, key=lambda u: (place[u[0]], u[1])))


def oracle(
    graph: Graph,
    batches: Batches,
    loss: Loss | None = None,
    *,
    units: int | None = None,
    seed: int = 0,
    stratified: bool = True,
    path: str | Path | None = None,
    progress: Progress | None = None,
) -> Oracle:
    """The loss on `batches` in eval mode without each of `units` units (None: all), one at a time.

    `loss(output, target)` is the mean over a batch, cross entropy by default; batches count by their examples and must
    lie on the model's device. With a `path`, what is measured is kept
    there: after a kill the same call goes on, and another sample of the same model, batches and loss measures only what
    is new. The model is not touched.
    Raises `NeedsData` for empty batches or a loss of the whole model that is not finite, `BadModel` where it is not
    finite without a unit, `CheckpointError` for a file of another model, loss or other batches; and as `sample`.
    """
    chosen, held = sample(graph, units, seed=seed, stratified=stratified), Held.of(batches)
    by = loss or nn.functional.cross_entropy
    facts = {
        "weights": fingerprint(graph.model),
        "groups": [[g.name, g.size] for g in graph.groups],
        "batches": held.fingerprint(),
        "loss": describe(by),
    }
    sizes = {g.name: g.size for g in graph.groups}
    with Ledger(path, KIND, facts, len(held.pairs)) as ledger:
        if DENSE not in ledger:
            ledger[DENSE] = _finite(measured(graph, held, {}, [by])[0])
        todo = [u for u in chosen if (u[0], str(u[1])) not in ledger]
        for number, (name, unit) in enumerate(todo):
            if progress:
                progress(len(chosen) - len(todo) + number, len(chosen))
            kept = {name: [u for u in range(sizes[name]) if u != unit]}
            ledger[name, str(unit)] = _finite(measured(graph, held, kept, [by])[0], (name, unit))
        if progress:
            progress(len(chosen), len(chosen))
        losses = torch.stack([ledger[name, str(unit)] for name, unit in chosen])
        return Oracle(chosen, losses, ledger[DENSE], held.examples)


def _finite(losses: Tensor, left_out: tuple[str, int] | None = None) -> Tensor:
    bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
    if not bad:
        return losses
    told = f"batch {bad[0]} gives a loss of {losses[bad[0]]}"
    if left_out is None:
        raise NeedsData(f"{told}; changes of it would mean nothing")
    name, unit = left_out
    raise BadModel(f"without unit {unit} of group {name!r}, {told}; leave the group out by frozen={name!r}")
