"""Prune a little, train, and again: Han et al., NIPS 2015 (1506.02626), and lottery tickets: Frankle, Carbin, "The
Lottery Ticket Hypothesis", ICLR 2019 (1803.03635). Rewinding to step k: Frankle, Dziugaite, Roy, Carbin (1903.01611);
rewinding the learning rate alone: Renda, Frankle, Carbin, ICLR 2020 (2003.02389).

Each round takes the same part of what is left of each layer, 1 - (1 - rate)^n in all after n rounds, and half as much
of the last layer, as the second paper does. What is then done with the weights that stay is `rewind`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from torch import Tensor, nn

from ..errors import BadOption, TrainingError
from ..evidence.base import Batches, Loss
from ..graph.example import Example
from ..groups.graph import Graph, trace
from ..groups.plan import Plan
from ..hook import Hook
from ..surgery.checkpoint import Origin
from ..surgery.cut import forget
from .base import WEIGHT_CRITERIA, WeightCriterion
from .choose import Amount
from .hold import Hold, Snapshot
from .hold import rewind as put_back
from .layout import Weights, find_weights
from .pattern import Number, Pattern, exact, rounded
from .sparse import Sparse
from .sparsify import Work, called, copy_of

Rewind = Literal["weights", "rate", "no"]


@dataclass(frozen=True, eq=False)
class Round:
    """What `train(model, round)` is told: give its hooks to the loop, and start the schedule at its step."""

    number: int  # 0: the dense model
    start: int | None  # step of the schedule to start from; None: no rewinding, fine-tune as you like
    hooks: tuple[Hook, ...]


Train = Callable[[nn.Module, Round], Any]


def iterative(
    model: nn.Module,
    example: Example,
    train: Train,
    *,
    rounds: int,
    rate: Number = "0.2",
    last_rate: Number | None = None,
    scope: Literal["layer", "global"] = "layer",
    rewind: Rewind = "weights",
    rewind_to: int = 0,
    criterion: str | WeightCriterion = "magnitude",
    batches: Batches | None = None,
    loss: Loss | None = None,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    seed: int = 0,
) -> Iterator[Sparse]:
    """Train, then so many times prune, rewind and train again; gives what each round leaves. `model` is untouched.

    `train(model, round)` trains in place, with `round.hooks`. `rate` of the weights left of each layer go in a round
    (to the nearest whole number), `last_rate` (half of it) of the last layer; with scope="global", `rate` of all that
    are left. `rewind`: "weights" puts weights and buffers back to what they were after `rewind_to` steps of the first
    training; "rate" keeps them, and has the schedule start from that step; "no" keeps them, and leaves the rest to
    `train`. Raises `BadOption`, and what `sparsify` raises.
    """
    chosen, pattern, part = WEIGHT_CRITERIA.make(criterion), Pattern(sparsity=rate, scope=scope), exact(rate, "rate")
    if rewind not in get_args(Rewind) or isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise BadOption(f"rewind={rewind!r}, rounds={rounds!r}: give one of {get_args(Rewind)}, and rounds from 1")
    if scope not in ("layer", "global") or (scope == "global" and last_rate is not None):
        raise BadOption(f"scope={scope!r}, last_rate={last_rate!r}: give 'layer', or 'global' with one rate for all")
    if chosen.updates or chosen.counts:
        raise BadOption(f"{called(chosen)} sets weights or counts by itself; rounds take a criterion that ranks")
    graph = trace(model, example)
    origin = replace(Origin.of(graph, Plan()), plans=())
    graph = replace(graph, model=copy_of(model))
    weights = find_weights(graph, include, exclude)
    work = Work(graph, chosen, weights, None if batches is None else list(batches), loss, seed)
    amount = _amount(part, _rates(graph, weights, part, last_rate) if scope == "layer" else {})
    how = f"{rounds} rounds of {called(chosen)}: {float(part):g} of {scope} each, rewinding {rewind}"
    first = Sparse(graph.model, {}, how, origin, weights.layouts, weights.left)
    return _rounds(first, work, train, rounds, pattern, amount, Snapshot(rewind_to), rewind)


def _rates(graph: Graph, weights: Weights, rate: Fraction, last: Number | None) -> dict[str, Fraction]:
    """By weight; the last that runs has one of its own, whether it is included or not."""
    names = [w.weight for w in graph.trace.writers if w.weight is not None and w.kind != "embedding"]
    rates = dict.fromkeys(weights.layouts, rate)
    if names[-1] in rates:
        rates[names[-1]] = rate / 2 if last is None else exact(last, "last_rate")
    return rates


def _amount(rate: Fraction, rates: Mapping[str, Fraction]) -> Amount:
    """What is zero already, and the weight's part of the rest."""
    return lambda name, size, before: before + rounded(rates.get(name, rate) * (size - before), "nearest")


def _rounds(
    first: Sparse,
    work: Work,
    train: Train,
    rounds: int,
    pattern: Pattern,
    amount: Amount,
    snapshot: Snapshot,
    rewind: Rewind,
) -> Iterator[Sparse]:
    model, masks = work.graph.model, dict[str, Tensor]()
    if rewind == "weights" and snapshot.step == 0:
        snapshot.on_start(model)
    train(model, Round(0, 0, (snapshot,) if rewind == "weights" else ()))
    for number in range(1, rounds + 1):
        masks = masks | work.round(pattern, masks, amount)
        if rewind == "weights":
            put_back(model, snapshot.tensors, masks)
        forget(model)
        train(model, Round(number, None if rewind == "no" else snapshot.step, (Hold(masks),)))
        _still_zero(model, masks)
        yield replace(first, model=copy.deepcopy(model), masks=dict(masks))


def _still_zero(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    for name, mask in masks.items():
        if model.get_parameter(name).detach()[~mask].any():
            raise TrainingError(f"training brought back weights of {name!r} that are zero; give it `round.hooks`")
