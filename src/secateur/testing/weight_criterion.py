"""The contract of a criterion for single weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import NeedsData
from ..evidence.base import COLLECTORS, from_data
from ..evidence.collect import collect
from ..groups.graph import trace
from ..sparsity.base import WEIGHT_CRITERIA, WeightCriterion
from ..sparsity.sparsify import sparsify
from .contract import frozen_dataclass, law, on_some, raises, untouched
from .networks import Given, Network


def check_weight_criterion(criterion: str | WeightCriterion, *, network: Given | None = None) -> None:
    """Scores have the weight's shape and are finite; exactly so many weights are zero, those that are kept are finite,
    and more zeros hold those of fewer, unless scores are taken anew from what is zero already; the same call gives the
    same zeros, and model, mode, `.grad` and RNG are untouched (law 10); `NeedsData` where data is needed (law 11).
    """
    chosen = WEIGHT_CRITERIA.make(criterion)
    frozen_dataclass(chosen)
    known = {"weights", *COLLECTORS.all()}
    law(chosen.needs <= known, "contract", chosen, f"needs {set(chosen.needs)}; known: {sorted(known)}")

    def on(net: Network) -> None:
        with untouched(chosen, net.model):
            _well_formed(chosen, net)
            few, many, again = (_masks(chosen, net, part) for part in ("1/4", "1/2", "1/2"))
        same = all(torch.equal(many[name], again[name]) for name in many)
        law(same, "law 10", chosen, f"gives other zeros for the same call on {net.name}")
        nested = all(not bool((many[name] & ~few[name]).any()) for name in few)
        anew = chosen.updates or chosen.sequential or chosen.rounds > 1  # scores follow what is zero already
        law(nested or anew, "law 7", chosen, f"does not nest its zeros on {net.name}")
        if from_data(chosen.needs):
            wanted = None if chosen.counts else 0.5
            asked = lambda: sparsify(net.model, net.example, criterion=chosen, sparsity=wanted)  # noqa: E731
            raises(NeedsData, asked, chosen, "chose without data")

    on_some(chosen, network, on)


def _well_formed(criterion: WeightCriterion, net: Network) -> None:
    graph = trace(net.model, net.example)
    evidence = collect(graph, criterion.needs, batches=net.batches)
    for name in dict.fromkeys(w.weight for w in graph.trace.writers if w.weight is not None):
        values, at = criterion.score(name, evidence), f"for {name} of {net.name}"
        shape = net.model.get_parameter(name).shape
        law(values.shape == shape, "contract", criterion, f"gives {tuple(values.shape)}, not {tuple(shape)} {at}")
        law(bool(torch.isfinite(values).all()), "contract", criterion, f"gives a score that is not finite {at}")


def _masks(criterion: WeightCriterion, net: Network, part: str) -> dict[str, Tensor]:
    wanted = None if criterion.counts else part
    found = sparsify(net.model, net.example, criterion=criterion, sparsity=wanted, batches=net.batches)
    sizes = [c.size for c in found.counts.values()]
    zeros = [c.zeros for c in found.counts.values()]
    numerator, _, denominator = part.partition("/")

    def share(size: int) -> int:
        return size * int(numerator) // int(denominator)

    if not criterion.counts and criterion.scope != "row":
        due = [share(s) for s in sizes] if criterion.scope == "layer" else [share(sum(sizes))]
        given = zeros if criterion.scope == "layer" else [sum(zeros)]
        law(due == given, "contract", criterion, f"leaves {given} zeros where {due} are asked on {net.name}")
    for name, mask in found.masks.items():
        weight = found.model.get_parameter(name).detach()
        law(not bool(weight[~mask].any()), "contract", criterion, f"masks what is not zero in {name} of {net.name}")
        law(bool(torch.isfinite(weight).all()), "contract", criterion, f"leaves {name} of {net.name} not finite")
    return found.masks
