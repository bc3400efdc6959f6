"""Weights as their layers multiply with them: what a weight norm or another parametrization makes of its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor
from torch.nn.utils.parametrize import ParametrizationList

from ..evidence.base import Evidence
from ..groups.group import Group, Member


def multiplied(evidence: Evidence, name: str) -> tuple[str, Tensor]:
    """The weight that this tensor is, or that is made of it, and its name. Nothing of the model moves."""
    path, _, leaf = name.rpartition(".")
    layer = evidence.model.get_submodule(path)
    if isinstance(layer, ParametrizationList):
        return path, _value(layer)
    made = vars(layer).get(leaf.rpartition("_")[0])  # as `nn.utils.weight_norm`, `spectral_norm` and `prune` leave it
    if isinstance(made, Tensor):
        return name.rpartition("_")[0], made.detach()
    return name, evidence.weight(name)


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


def matrices(group: Group, evidence: Evidence, *roles: str) -> Iterator[tuple[Member, str, Tensor]]:
    """Each weight that writes ("out") or reads ("in") the group, whole, along one axis after another, with its name.

    Of a product of factors it is the factor that holds the units.
    """
    tensors = chain(evidence.model.named_parameters(), evidence.model.named_buffers())
    shapes = {n: t.shape for n, t in tensors}
    held = [m for m in group.members if m.role in roles and len(shapes.get(m.tensor, ())) > 1]
    made = {m.tensor: multiplied(evidence, m.tensor) for m in held}
    whole = {made[m.tensor][0] for m in held if made[m.tensor][1].shape == shapes[m.tensor]}
    done = set()
    for member in held:
        name, weight = made[member.tensor]
        if name not in whole:
            name, weight = member.tensor, evidence.weight(member.tensor)
        elif weight.shape != shapes[member.tensor]:  # only a scale of one that is whole, as of a weight norm
            continue
        if (name, member.axis) not in done:
            done.add((name, member.axis))
            yield member, name, weight
