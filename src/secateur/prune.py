"""The sentence: trace, score, allocate, cut, verify. Each step is pure and hands plain data to the next."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from .allocation.base import ALLOCATORS, Allocator
from .cost.budget import Budget
from .cost.cost import CostModel
from .cost.latency import Latency
from .criteria.base import CRITERIA, Criterion
from .errors import (
    BadModel,
    PlanError,
    SecateurError,
    SecateurWarning,
    SurgeryError,
    UnknownName,
    VerificationError,
)
from .evidence.base import Batches, Evidence, Loss, Sampling, pairs
from .evidence.collect import collect as collect_evidence
from .graph.example import Example
from .groups.find import Frozen
from .groups.graph import Graph, trace
from .groups.group import WIDTHS, Group
from .groups.plan import Plan
from .groups.scores import Scores
from .latency.asked import asked
from .pruned import Pruned
from .surgery.blocks import verify_blocks
from .surgery.carry import originals
from .surgery.checkpoint import Origin
from .surgery.cut import copied, edits, replace_by
from .surgery.fold import apply_shifts, fold_means, shifts
from .surgery.merge import merged
from .surgery.mergeable import check_merges
from .surgery.recalibrate import recalibrate
from .surgery.reconstruct import reconstruct
from .surgery.verify import Check, unverified
from .surgery.verify import verify as verify_whole

Repair = Literal["none", "fold", "recalibrate", "reconstruct"]
Verify = Literal["full", "block", "off"]
CHECKS: dict[str, Callable[..., Check]] = {"full": verify_whole, "block": verify_blocks, "off": unverified}


def collect(
    graph: Graph,
    criteria: str | Criterion | Iterable[str | Criterion],
    *,
    batches: Batches | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
) -> Evidence:
    """One pass over `batches` for all of these criteria; `score(..., evidence=)` then needs no data.

    The evidence can be stored (`save`), and read (`Evidence.load(path, model)`) for any budget later.
    Raises `UnknownName`, and `NeedsData` as `score` does.
    """
    wanted = [criteria] if isinstance(criteria, (str, Criterion)) else list(criteria)
    needs = {need for c in wanted for need in CRITERIA.make(c).needs}
    return collect_evidence(graph, needs, batches=batches, loss=loss, seed=seed, sampling=sampling)


def score(
    graph: Graph,
    criterion: str | Criterion = "l2",
    *,
    batches: Batches | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    evidence: Evidence | None = None,
) -> Scores:
    """One number per unit of each group, higher = keep: group name -> (units,) float64.

    Where the criterion's scores of different groups are not on one scale, each group's are divided by their mean.
    Raises `UnknownName`, and `NeedsData` when the criterion needs data and `batches` gives none.
    """
    chosen = CRITERIA.make(criterion)
    if any(p.is_meta for p in graph.model.parameters()):
        raise BadModel("the model is on the meta device and has no weights to score; make the plan by hand")
    if evidence is None:
        evidence = collect(graph, chosen, batches=batches, loss=loss, seed=seed)
    scores: Scores = {}
    for group in graph.groups:
        if chosen.units not in ("any", "depth" if group.kind == "depth" else "width"):
            what, not_so = ("whole residual blocks", "widths") if group.kind == "depth" else ("widths", "whole blocks")
            raise BadModel(
                f"group {group.name!r} holds {what}, and criterion {chosen.name!r} scores {not_so}; prune blocks with "
                'kinds=("depth",) and "block-influence", and widths in a prune of their own'
            )
        values = chosen.score(group, evidence).to("cpu", torch.float64)
        if not torch.isfinite(values).all():
            raise BadModel(f"criterion {chosen.name!r} gives a score that is not finite in group {group.name!r}")
        mean = values.mean()
        scores[group.name] = values if chosen.comparable or mean <= 0 else values / mean
    return scores


def allocate(
    graph: Graph,
    scores: Scores,
    budget: Budget | None = None,
    *,
    allocator: str | Allocator = "ranked",
    latency: Latency | None = None,
) -> Plan:
    """A plan that meets the budget.

    `latency`: what `measure_latency` found; where the budget or the allocator's `round_to="auto"` asks for latency and
    none is given, it is measured here, or read from where an earlier measurement was kept.
    Raises `PlanError` for scores that do not fit, `BudgetUnreachable`, `NothingToDo`, `UnknownName`.
    """
    for group in graph.groups:
        found = scores.get(group.name)
        if found is None or found.shape != (group.size,) or not torch.isfinite(found).all():
            told = "are missing" if found is None else f"are {tuple(found.shape)} or not finite"
            raise PlanError(
                f"scores of group {group.name!r} {told}; one finite number for each of {group.size} units needed"
            )
    chosen = ALLOCATORS.make(allocator)
    return chosen.allocate(graph, scores, CostModel(graph, latency or asked(graph, budget, chosen)), budget)


def choose(graph: Graph, plan: Plan, criterion: str | Criterion, evidence: Evidence) -> Plan:
    """The plan with as many units of each group, but those that the criterion chooses for that number.

    Most criteria choose the highest scores, as the plan has them already.
    """
    chosen = CRITERIA.make(criterion)
    kept: dict[str, Iterable[int]] = {}
    for name, units in plan.kept.items():
        found = chosen.choose(graph[name], evidence, len(units))
        kept[name] = units if found is None else sorted(found.tolist())
    return Plan.keeping(graph, kept)


def cut(
    graph: Graph, plan: Plan, *, tolerance: float = 1e-6, verify: Verify = "full", latency: Latency | None = None
) -> Pruned:
    """A new, smaller model by the plan, verified; the graph's model is untouched, bit for bit.

    With `latency`, the costs before and after state what it predicts.
    `verify`: "full" runs the masked original and the cut model on two inputs; "block" runs the masked original once and
    holds each block of the cut model to it alone; "off" trusts the cut, and says so in `check`.

    Raises `PlanError`, `SurgeryError`, `VerificationError`.
    """
    if verify not in CHECKS:
        raise UnknownName("verify", verify, list(CHECKS))
    if verify != "off" and any(p.is_meta for p in graph.model.parameters()):
        raise VerificationError(
            f"the model is on the meta device, where there are no numbers to compare; give verify='off', not {verify!r}"
        )
    cost = CostModel(graph, latency)
    work = edits(graph, plan)
    shift = shifts(graph, graph.model, plan)
    check_merges(graph, plan)
    try:
        small = copied(merged(graph, plan).model, work)
    except Exception as error:  # whatever a user's __deepcopy__ raises is theirs; say which step it was
        raise BadModel(f"the model cannot be copied ({error}), and a cut is made and checked on a copy") from error
    apply_shifts(graph, small, shift, graph.alive(plan.kept))
    check = CHECKS[verify](graph, plan, small, tolerance=tolerance)
    return Pruned(
        small,
        plan,
        cost.dense(),
        cost.at(plan.widths(graph)),
        check,
        Origin.of(graph, plan),
        work,
        originals(graph.model),
    )


def prune(
    model: nn.Module | Pruned,
    example: Example,
    *,
    budget: Budget | None = None,
    criterion: str | Criterion = "l2",
    allocator: str | Allocator = "ranked",
    batches: Batches | None = None,
    loss: Loss | None = None,
    frozen: Iterable[str | nn.Parameter] = (),
    kinds: Iterable[str] = WIDTHS,
    repair: Repair = "none",
    verify: Verify = "full",
    seed: int = 0,
    latency: Latency | None = None,
) -> Pruned:
    """Trace, score, allocate, cut and verify: a new model; the caller's is untouched, bit for bit, and so is the RNG.

    `model` may be an earlier `Pruned`, which is then pruned further. `batches` yields (inputs, targets), for criteria
    that need data and for `repair`, which makes up for the cut without labels or gradients: "fold" puts the mean of
    what each layer saw of removed units into its bias or the norm behind it, "recalibrate" measures batch-norm
    statistics anew, "reconstruct" refits each layer that lost inputs to what the dense layer gave, by least squares.
    Groups whose cut fails its check are found one by one, left whole, and named in a `SecateurWarning`. `latency`: as
    for `allocate`. Raises what the steps raise.
    """
    if repair not in get_args(Repair):
        raise UnknownName("repair", repair, get_args(Repair))
    earlier, net = (model, model.model) if isinstance(model, Pruned) else (None, model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which seeds other devices too
        graph = trace(net, example, frozen=frozen, kinds=kinds)
        held = None if batches is None else list(pairs(batches))
        inputs = [x for x, _ in held or ()]

        def attempt(graph: Graph) -> Pruned:
            evidence = collect(graph, criterion, batches=held, loss=loss, seed=seed)
            scores = score(graph, criterion, evidence=evidence)
            known = latency or asked(graph, budget, ALLOCATORS.make(allocator))
            plan = allocate(graph, scores, budget, allocator=allocator, latency=known)
            plan = choose(graph, plan, criterion, evidence)
            plan = fold_means(graph, plan, inputs) if repair == "fold" else plan
            return cut(graph, plan, verify=verify, latency=known)

        graph, pruned = _without_what_fails(attempt, graph)
        mend(graph, pruned, inputs, repair)
    return pruned if earlier is None else earlier.followed_by(pruned)


def _without_what_fails(attempt: Callable[[Graph], Pruned], graph: Graph) -> tuple[Graph, Pruned]:
    """An attempt, and where its cut fails its check another without the groups whose fault that is."""
    try:
        return graph, attempt(graph)
    except (SurgeryError, VerificationError) as error:
        graph = without_culprits(graph, error)
        return graph, attempt(graph)


def without_culprits(graph: Graph, error: SecateurError) -> Graph:
    """The graph with those groups frozen that fail their check when half of each is cut; a warning names them.

    Raises `error` where no group fails, so that none can be blamed.
    """

    def fails(groups: Sequence[Group]) -> bool:
        kept = {g.name: range(max(1, g.least, g.size // 2)) for g in groups}
        try:
            cut(graph, Plan.keeping(graph, kept))
        except (SurgeryError, VerificationError):
            return True
        return False

    def culprits(groups: Sequence[Group]) -> list[Group]:
        if not groups or not fails(groups):
            return []
        half = len(groups) // 2
        return list(groups) if len(groups) == 1 else culprits(groups[:half]) + culprits(groups[half:])

    found = culprits(graph.groups)
    if not found:
        raise error
    names = ", ".join(repr(g.name) for g in found)
    warnings.warn(f"left whole, for a cut of them fails its check ({error}): {names}", SecateurWarning, stacklevel=3)
    guilty = {g.name for g in found}
    frozen = tuple(Frozen(g.name, g.size, f"a cut of it fails its check: {error}", "") for g in found)
    left = tuple(g for g in graph.groups if g.name not in guilty)
    return replace(graph, groups=left, frozen=(*graph.frozen, *frozen))


def mend(graph: Graph, pruned: Pruned, inputs: Sequence[Example], repair: Repair) -> None:
    """Make up for a cut, in place, from inputs alone; "none" and "fold" (which is part of the plan) do nothing here."""
    if repair == "recalibrate":
        recalibrate(pruned.model, inputs)
    elif repair == "reconstruct":
        reconstruct(graph, pruned.plan, pruned.model, inputs)


def prune_(model: nn.Module, example: Example, **options: Any) -> Pruned:
    """As `prune`, but in place: the caller's model becomes the smaller one, whole or not at all."""
    pruned = prune(model, example, **options)
    small, before = pruned.model, originals(model)
    replace_by(model, small, pruned.edits)
    return replace(pruned, model=model, originals=before)


__all__ = ["Pruned", "allocate", "choose", "collect", "cut", "prune", "prune_", "score", "trace"]
