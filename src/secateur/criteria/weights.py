"""Weights as their layers multiply with them: what a weight norm or another parametrization makes of its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ..groups.group import Group, Member


def multiplied(model: nn.Module, name: str) -> tuple[str, Tensor]:
    """The weight that this tensor is, or that is made of it, and its name. Nothing of the model moves."""
    path, _, leaf = name.rpartition(".")
    layer = model.get_submodule(path)
    if isinstance(layer, ParametrizationList):
        return path, _value(layer)
    made = vars(layer).get(leaf.rpartition("_")[0])  # as `nn.utils.weight_norm`, `spectral_norm` and `prune` leave it
    if isinstance(made, Tensor):
        return name.rpartition("_")[0], made.detach()
    return name, getattr(layer, leaf).detach()


def _value(parametrizations: ParametrizationList) -> Tensor:
    """In eval mode: some, such as a spectral norm, move their buffers when asked in train mode."""
    modes = [(module, module.training) for module in parametrizations.modules()]
    try:
        parametrizations.eval()
        with torch.no_grad():
            value: Tensor = parametrizations()
            return value
    finally:
        for module, training in modes:
            module.training = training


def matrices(group: Group, model: nn.Module, *roles: str) -> Iterator[tuple[Member, str, Tensor]]:
    """Each weight that writes ("out") or reads ("in") the group, whole, along one axis after another, with its name.

    Of a product of factors it is the factor that holds the units.
    """
    shapes = {n: t.shape for n, t in chain(model.named_parameters(), model.named_buffers())}
    held = [m for m in group.members if m.role in roles and len(shapes.get(m.tensor, ())) > 1]
    made = {m.tensor: multiplied(model, m.tensor) for m in held}
    whole = {made[m.tensor][0] for m in held if made[m.tensor][1].shape == shapes[m.tensor]}
    done = set()
    for member in held:
        name, weight = made[member.tensor]
        if name not in whole:
            name, weight = member.tensor, attrgetter(member.tensor)(model).detach()
        elif weight.shape != shapes[member.tensor]:  # only a scale of one that is whole, as of a weight norm
            continue
        if (name, member.axis) not in done:
            done.add((name, member.axis))
            yield member, name, weight
