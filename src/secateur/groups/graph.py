"""Graph: what can be pruned in a model, what is frozen and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import BadModel, PlanError, UnknownName
from ..graph.example import Example
from ..graph.record import Trace
from ..graph.trace import read
from .depth import depth_groups
from .find import Frozen, find_groups
from .group import KINDS, WIDTHS, Group

SHOWN = 6  # reasons, and groups of one reason, that a coverage report lists


@dataclass(frozen=True)
class Coverage:
    """How much of a model can be pruned; prints as a report."""

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]

    @property
    def units(self) -> int:
        """Units that a plan may remove."""
        return sum(g.size for g in self.groups)

    def by_reason(self) -> dict[str, list[Frozen]]:
        """What is frozen, by its reason; the most frequent reason first."""
        found: dict[str, list[Frozen]] = {}
        for f in self.frozen:
            found.setdefault(f.reason, []).append(f)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    def __str__(self) -> str:
        total = len(self.groups) + len(self.frozen)
        lines = [f"{len(self.groups)} of {total} groups prunable ({self.units} units); {len(self.frozen)} frozen"]
        reasons = self.by_reason()
        for reason in list(reasons)[:SHOWN]:
            lines += _because(reason, reasons[reason])
        rest = [f for reason in list(reasons)[SHOWN:] for f in reasons[reason]]
        if rest:
            lines.append(f"  {len(rest)} more frozen, for {len(reasons) - SHOWN} other reasons")
        return "\n".join(lines)


def _because(reason: str, found: list[Frozen]) -> list[str]:
    places = [f" at {f.path}" if f.path else "" for f in found]
    if len(found) == 1:
        return [f"  frozen: {found[0].name} ({found[0].size}): {reason}{places[0]}"]
    each = [f"    {f.name} ({f.size}){at}" for f, at in zip(found, places, strict=True)]
    more = [f"    and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [f"  {len(found)} frozen: {reason}", *each[:SHOWN], *more]


@dataclass(frozen=True, eq=False)
class Graph:
    """A model read once: its groups, and the trace that cost and surgery read."""

    model: nn.Module = field(repr=False)
    example: Example = field(repr=False)
    trace: Trace = field(repr=False)
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...] = field(repr=False)

    def coverage(self) -> Coverage:
        """What can be pruned, what is frozen and why."""
        return Coverage(self.groups, self.frozen)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        for f in self.frozen:
            if f.name == name:
                raise PlanError(f"group {name!r} is frozen: {f.reason}")
        raise UnknownName("group", name, [g.name for g in self.groups])

    def alive(self, kept: dict[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
        """(labels,) whether each label survives when groups keep only these units."""
        classes = np.ones(int(self.trace.classes.max()) + 1, dtype=bool)
        for name, units in kept.items():
            group = self[name]
            classes[np.delete(group.classes, units)] = False
        return classes[self.trace.classes]


def trace(
    model: nn.Module,
    example: Example,
    *,
    frozen: Iterable[str | nn.Parameter] = (),
    kinds: Iterable[str] = WIDTHS,
) -> Graph:
    """Read what a model does to each axis of each tensor, from one forward on fake tensors.

    `example`: a tensor, a tuple of positional inputs or a dict of keyword inputs, with real shapes (values are not
    used). `frozen`: module or parameter names, globs, or parameters, whose groups must not be touched. `kinds`: which
    kinds of unit may be cut: "channel", "head", "neuron", "stream", "block", and, if asked for, "expert" (of mixtures
    of experts) and "depth" (whole residual blocks, which only some criteria score).
    The model, its mode and the RNG are left as they are. Raises `BadExample`, `BadModel` (weights that are not finite),
    `TraceError`, `UnknownName` (a `frozen` pattern that matches nothing); an error of the model's own forward comes
    through unwrapped.
    """
    _check_kind(model)
    parameters = dict(model.named_parameters())
    for name, tensor in [*parameters.items(), *model.named_buffers()]:
        if _is_broken(tensor, buffer=name not in parameters):
            raise BadModel(f"{name} holds NaN or infinity; no score or check of this model could be trusted")
    wanted = _kinds(kinds)
    record = read(model, example, experts="expert" in wanted)
    groups, stuck = find_groups(record)
    patterns = [frozen] if isinstance(frozen, (str, nn.Parameter)) else list(frozen)
    named = [_name(model, p) for p in patterns]
    deep = depth_groups(record) if "depth" in wanted else ()
    free, chosen = _withhold(model, (*groups, *deep), named)
    others = [Frozen(g.name, g.size, f"its units are {g.kind}s, not in kinds={wanted}", "") for g in free]
    asked = tuple(g for g in free if g.kind in wanted)
    left = [f for f, g in zip(others, free, strict=True) if g.kind not in wanted]
    return Graph(model, example, record, asked, (*stuck, *chosen, *left))


def _kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in wanted:
        if kind not in KINDS:
            raise UnknownName("kind", kind, KINDS)
    return wanted


def _name(model: nn.Module, pattern: str | nn.Parameter) -> str:
    if isinstance(pattern, str):
        return pattern
    for name, parameter in model.named_parameters():
        if parameter is pattern:
            return name
    raise UnknownName("parameter", f"of shape {tuple(pattern.shape)}", [n for n, _ in model.named_parameters()])


def _check_kind(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise BadModel(f"{type(model).__name__} is no torch.nn.Module; give the model itself, of a Pruned its `.model`")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise BadModel(f"the model is wrapped in {type(model).__name__}; give what it wraps, `model.module`")
    if isinstance(model, torch.jit.ScriptModule):
        raise BadModel("the model is a ScriptModule, whose layers cannot be changed; prune it before scripting")


def _is_broken(tensor: torch.Tensor, buffer: bool) -> bool:
    """Whether a tensor holds NaN or infinity; a buffer may hold minus infinity, as attention masks do."""
    if not tensor.is_floating_point() or tensor.is_meta or torch.isfinite(tensor.sum()):
        return False  # a finite sum has only finite terms, and is many times faster to find
    return not (torch.isfinite(tensor) | (torch.isneginf(tensor) & buffer)).all()


def _withhold(
    model: nn.Module, groups: tuple[Group, ...], patterns: list[str]
) -> tuple[tuple[Group, ...], tuple[Frozen, ...]]:
    """Split off the groups that hold anything the user's patterns name."""
    names = [n for n, _ in model.named_modules()] + [n for n, _ in model.named_parameters()] + [g.name for g in groups]
    for pattern in patterns:
        if not any(fnmatchcase(n, pattern) for n in names):
            raise UnknownName("module or parameter", pattern, [n for n in names if n])
    free, chosen = [], []
    for group in groups:
        hit = next((p for p in patterns if _touches(model, group, p)), None)
        if hit is None:
            free.append(group)
        else:
            chosen.append(Frozen(group.name, group.size, f"asked for by frozen={hit!r}", ""))
    return tuple(free), tuple(chosen)


def _touches(model: nn.Module, group: Group, pattern: str) -> bool:
    """Whether a pattern names the group, a member, or a module that holds one; reading a group does not touch it."""
    held = [m.tensor for m in group.members if m.role != "in"]
    if group.kind == "depth":
        held = [n for n, _ in model.named_parameters() if n.startswith(f"{group.name}.")]
    prefixes = {".".join(n.split(".")[:i]) for n in held for i in range(1, n.count(".") + 2)}
    return any(fnmatchcase(n, pattern) for n in (group.name, *prefixes))
