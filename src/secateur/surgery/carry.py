"""Carry: an optimizer for the cut model, with the state of every weight that is left."""

from __future__ import annotations

import copy
import weakref
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import BadModel
from .cut import Edits

Originals = tuple[tuple["weakref.ref[nn.Parameter]", str], ...]


class Cut(Protocol):
    """What `carry` takes: a `Pruned`."""

    @property
    def model(self) -> nn.Module:
        """The smaller model."""

    @property
    def edits(self) -> Edits:
        """What was cut."""

    @property
    def originals(self) -> Originals:
        """The parameters before, and their names."""


def originals(model: nn.Module) -> Originals:
    """The parameters of a model, not kept alive, and their names."""
    return tuple((weakref.ref(p), name) for name, p in model.named_parameters())


def carry(optimizer: Optimizer, pruned: Cut) -> Optimizer:
    """A new optimizer of the same kind and settings for `pruned.model`; `optimizer` is untouched.

    State of a weight's shape (momentum, second moments) is cut as the weight was; other state is copied. Raises
    `BadModel` when the optimizer holds a parameter that the model before the cut did not have, or state of another
    shape than its weight, as Adafactor and LBFGS do.
    """
    names = {id(p): name for ref, name in pruned.originals if (p := ref()) is not None}
    fresh = dict(pruned.model.named_parameters())
    held = [p for group in optimizer.param_groups for p in group["params"]]
    for p in held:
        if id(p) not in names:
            raise BadModel(
                f"the optimizer holds a parameter of shape {tuple(p.shape)} that the model before the cut did not "
                "have; give the optimizer that trained the model this was pruned from"
            )
    # With old parameters mapped to new ones, a deep copy is an optimizer for the new ones.
    left = [p for p in held if names[id(p)] in fresh]  # without those of blocks that are gone
    memo: dict[int, Any] = {id(p): fresh[names[id(p)]] for p in left}
    made: Optimizer = copy.deepcopy(optimizer, memo)
    own = {id(p) for p in fresh.values()}
    for group in made.param_groups:
        group["params"] = [p for p in group["params"] if id(p) in own]
    for gone in [p for p in made.state if id(p) not in own]:
        del made.state[gone]
    for p in left:
        axes = pruned.edits.indices.get(names[id(p)], {})
        state = made.state.get(fresh[names[id(p)]], {})
        for key, value in state.items():
            if axes and isinstance(value, Tensor) and value.dim() and value.shape != p.shape:
                raise BadModel(
                    f"{type(optimizer).__name__} keeps {key!r} of shape {tuple(value.shape)} for {names[id(p)]}, which "
                    f"has {tuple(p.shape)}: how it would be cut is not known; start that optimizer anew"
                )
            if isinstance(value, Tensor) and value.shape == p.shape and value.dim():
                for d, index in axes.items():
                    value = value.index_select(d, torch.from_numpy(index).to(value.device))
                state[key] = value
    return made
