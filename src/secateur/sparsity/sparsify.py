"""The verb: choose single weights by a criterion and a pattern, and set them to zero, on a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import groupby

import torch
from torch import Tensor, nn

from ..errors import BadModel, BadOption
from ..evidence.base import Batches, Evidence, Loss, Sampling
from ..evidence.collect import collect
from ..graph.example import Example
from ..graph.trace import block_paths
from ..groups.graph import Graph, trace
from ..groups.plan import Plan
from ..schedule import left
from ..surgery.checkpoint import Origin, Saveable
from ..surgery.cut import Edits, copied, forget
from .base import WEIGHT_CRITERIA, WeightCriterion
from .choose import Amount, check_runs, choose
from .hold import zero
from .layout import Weights, find_weights
from .pattern import Number, Pattern, Scope, rounded
from .sparse import Sparse


def sparsify(
    model: nn.Module | Saveable,
    example: Example,
    *,
    criterion: str | WeightCriterion = "magnitude",
    sparsity: Number | None = None,
    pattern: Pattern | None = None,
    scope: Scope | None = None,
    batches: Batches | None = None,
    loss: Loss | None = None,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    seed: int = 0,
) -> Sparse:
    """A new model with zeros, exactly as many as asked; the caller's is untouched, bit for bit, and so is the RNG.

    `sparsity` is the part of the weights that is zero; `scope` what it is a part of ("global", "layer", "row"; by
    default what the criterion's paper ranks); `pattern` says more, such as `Pattern(keep=2, of=4)`. Weights are those
    of linear layers and convolutions, never biases, norms or embeddings; `include` and `exclude` are names or globs of
    parameters or modules. `model` may be an earlier `Pruned` or `Sparse`; what is zero in a `Sparse` stays zero, and
    counts. `batches` yields (inputs, targets), for criteria that need data.

    Raises `BadOption` for a sparsity or pattern that makes no sense, `UnknownName`, `NeedsData`, and `BadModel`, naming
    the weight, where a criterion has no evidence or a pattern does not fit.
    """
    chosen = WEIGHT_CRITERIA.make(criterion)
    goal = _goal(chosen, sparsity, pattern, scope)
    base = model if isinstance(model, nn.Module) else model.model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        graph = trace(base, example)
        made = replace(graph, model=copy_of(base))
        held = dict(getattr(model, "masks", {}))
        weights = find_weights(graph, include, exclude)
        check_runs(weights.layouts, goal)
        work = Work(made, chosen, weights, None if batches is None else list(batches), loss, seed)
        masks = held | work.to(goal, held)
    forget(made.model)
    origin = replace(Origin.of(graph, Plan()), plans=()) if isinstance(model, nn.Module) else model.origin
    layouts = dict(getattr(model, "layouts", {})) | work.weights.layouts
    left = {n: why for n, why in work.weights.left.items() if n not in masks}
    return Sparse(made.model, masks, f"{called(chosen)}: {goal}" if goal else called(chosen), origin, layouts, left)


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy. Raises `BadModel` where there are no weights, or the model cannot be copied."""
    if any(p.is_meta for p in model.parameters()):
        raise BadModel("the model is on the meta device and has no weights to score")
    try:
        return copied(model, Edits({}, {}))
    except Exception as error:  # whatever a user's __deepcopy__ raises is theirs; say which step it was
        raise BadModel(f"the model cannot be copied ({error}), and zeros are set on a copy") from error


def _goal(
    criterion: WeightCriterion, sparsity: Number | None, pattern: Pattern | None, scope: Scope | None
) -> Pattern | None:
    """The pattern with its scope; None where the criterion itself says how many weights go. Raises `BadOption`."""
    if pattern is not None and (sparsity is not None or scope is not None):
        raise BadOption(f"sparsity={sparsity!r}, scope={scope!r} and pattern={pattern!r}: say it once, in the pattern")
    if pattern is None and sparsity is None:
        if scope is not None or not criterion.counts:
            raise BadOption("how many weights go? give sparsity=0.5, or pattern=Pattern(keep=2, of=4)")
        return None
    if criterion.counts:
        raise BadOption(f"{criterion!r} itself says how many weights go; leave out sparsity= and pattern=")
    wanted = pattern or Pattern(sparsity=sparsity, scope=scope)
    if wanted.of is None and wanted.scope is None:
        wanted = replace(wanted, scope=criterion.scope)
    if wanted.scope == "global" and criterion.updates:
        raise BadOption(
            f"scope='global': {criterion.name!r} changes the weights that stay, one layer after the other, so that "
            "there is no ranking of all; give scope='layer' or 'row'"
        )
    return wanted


def called(criterion: WeightCriterion) -> str:
    """Its name, with the options that are not the default."""
    other = [f"{f.name}={v!r}" for f in fields(criterion) if (v := getattr(criterion, f.name)) != f.default]
    return (criterion.name or type(criterion).__name__) + (f"({', '.join(other)})" if other else "")


def _part(part: Fraction, pattern: Pattern) -> Amount:
    return lambda name, size, before: rounded(part * size, pattern.rounding)


@dataclass(frozen=True, eq=False)
class Work:
    """One model to be pruned, in place, by one criterion."""

    graph: Graph
    criterion: WeightCriterion
    weights: Weights
    batches: Batches | None = None
    loss: Loss | None = None
    seed: int = 0

    def to(self, goal: Pattern | None, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks that reach the goal, in as many rounds as the criterion asks for; each leaves the same part of what it
        finds."""
        if goal is None:
            return self.round(None, held, lambda name, size, before: 0)
        rounds = 1 if goal.of is not None else self.criterion.rounds
        masks = dict(held)
        for e in range(1, rounds + 1):
            part = (
                goal.fraction if e == rounds else Fraction(1 - left("geometric", float(1 - goal.fraction), e, rounds))
            )
            masks |= self.round(goal, masks, _part(part, goal))
        return masks

    def round(self, pattern: Pattern | None, held: Mapping[str, Tensor], amount: Amount) -> dict[str, Tensor]:
        """Masks of one ranking, set in the model."""
        masks: dict[str, Tensor] = {}
        for names in self._stages(pattern):
            evidence = self._evidence(names)
            layouts = {name: self.weights.layouts[name] for name in names}
            for name, (mask, weight) in choose(self.criterion, evidence, layouts, held, pattern, amount).items():
                parameter = self.graph.model.get_parameter(name)
                masks[name] = mask.to(parameter.device)
                if weight is not None:
                    with torch.inference_mode(parameter.is_inference()), torch.no_grad():
                        parameter.copy_(weight)
                zero(parameter, masks[name])
        return masks

    def _stages(self, pattern: Pattern | None) -> Iterator[list[str]]:
        """Weights that are scored on one and the same model: all, or those of a block; of a layer, if there is none."""
        names = list(self.weights.layouts)
        if pattern is None or pattern.scope == "global" or not self.criterion.sequential:
            yield names
            return
        blocks = [b for b in block_paths(self.graph.model) if b]
        for _, stage in groupby(names, lambda n: next((b for b in blocks if n.startswith(f"{b}.")), n)):
            yield list(stage)

    def _evidence(self, names: Iterable[str]) -> Evidence:
        """Of these weights, on the model as it is now."""
        loss = self.criterion.loss(self.loss or nn.functional.cross_entropy)
        sampling = Sampling(seed=self.seed, weights=frozenset(names))
        return collect(self.graph, self.criterion.needs, batches=self.batches, loss=loss, sampling=sampling)
