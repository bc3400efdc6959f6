"""A case: a small net written by hand, an input for it, and what must be prunable in it or refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from held import tensors_of
from nets import fill, images
from secateur.groups.graph import Graph, trace
from secateur.groups.group import WIDTHS
from secateur.groups.plan import Plan

SQUARE, FLAT, WORDS = images(2, 1, 8, 8), images(2, 12), images(2, 5, 12)  # (B, C, H, W), (B, D), (B, T, D)
TOKENS = torch.tensor([[1, 4, 0, 9, 2], [3, 3, 10, 2, 7]])  # (B, T), a vocabulary of 11


@dataclass(frozen=True)
class Case:
    """What is said of a net. `axes`: "tensor:axis" -> how many units at least may be taken from it, all groups added.

    `frozen`: layer -> part of the reason for which what it writes must stay. `reference`: how to silence units without
    secateur: "readers" sets to zero what reads them, "both" also what writes them (for products of two activations),
    "none" where a normalisation over the cut axis or over the weight itself makes zeros differ from absence.
    """

    build: Callable[[], nn.Module]
    example: Any
    groups: int
    axes: Mapping[str, int]
    frozen: Mapping[str, str] = field(default_factory=dict)
    reference: Literal["readers", "both", "none"] = "readers"
    batch: int | None = 0  # the axis of the inputs along which a batch may grow; None: the author fixed it
    kinds: tuple[str, ...] = WIDTHS


CASES: dict[str, Case] = {}


def case(
    example: Any, groups: int, axes: Mapping[str, int], **facts: Any
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a class of nets as a case."""

    def enter(cls: type[nn.Module]) -> type[nn.Module]:
        assert cls.__name__ not in CASES
        CASES[cls.__name__] = Case(cls, example, groups, axes, **facts)
        return cls

    return enter


def filled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights as in `nets.fill`, but whole numbers (positions, counters) as the author set them."""
    whole = {n: t.clone() for n, t in net.named_buffers() if not t.is_floating_point()}
    fill(net, seed)
    for name, tensor in net.named_buffers():
        if name in whole:
            tensor.copy_(whole[name])
    return net


def new(name: str) -> nn.Module:
    """A new net of the case, in training mode."""
    return filled(CASES[name].build()).train()


@cache
def graph(name: str) -> Graph:
    """The net, traced once for all tests."""
    return trace(new(name), CASES[name].example, kinds=CASES[name].kinds)


def prunable(g: Graph) -> dict[str, int]:
    """ "tensor:axis" -> units that may be taken from it."""
    found: dict[str, int] = {}
    for group in g.groups:
        for place in {f"{m.tensor}:{m.axis}" for m in group.members}:
            found[place] = found.get(place, 0) + group.size
    return found


def refusal(error: type[Exception], act: Callable[[], Any]) -> str | None:
    """What the refusal says, or None where nothing is refused."""
    try:
        act()
    except error as refused:
        return str(refused)
    return None


def silenced(name: str, g: Graph, plan: Plan) -> nn.Module:
    """The net with removed units silenced by zeros in weights: nothing here knows how masked execution is done."""
    model = copy.deepcopy(g.model).double()
    held, both = tensors_of(model), CASES[name].reference == "both"
    for group, units in plan.kept.items():
        gone = np.setdiff1d(np.arange(g[group].size), units)
        for member in g[group].members:
            if member.reads or both:
                index = torch.from_numpy(member.index[gone].reshape(-1))
                held[member.tensor].detach().index_fill_(member.axis, index, 0.0)
    return model
