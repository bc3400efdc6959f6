"""All that a run needs to go on: the tensors of model, optimizer and hooks under one flat set of names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn, optim

from secateur.errors import WrongArchitecture
from secateur.methods.hook import Hook


def capture(model: nn.Module, optimizer: optim.Optimizer, hooks: Sequence[Hook]) -> dict[str, Tensor]:
    """Named tensors: `model.*`, `optimizer.<parameter number>.*`, `hook.<number>.*`."""
    tensors = {f"model.{name}": tensor for name, tensor in _own(model).items()}
    for place, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{slot}": t for slot, t in slots.items() if isinstance(t, Tensor)}
    for number, hook in enumerate(hooks):
        tensors |= {f"hook.{number}.{name}": tensor for name, tensor in hook.state_dict().items()}
    return tensors


def restore(tensors: Mapping[str, Tensor], model: nn.Module, optimizer: optim.Optimizer, hooks: Sequence[Hook]) -> None:
    """Put captured tensors back, in place. Raises WrongArchitecture, before anything changed, for another model."""
    own, stored = _own(model), _below("model", tensors)
    _same_architecture(own, stored)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])
    slots: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in _below("optimizer", tensors).items():
        place, slot = name.split(".")
        slots[int(place)][slot] = tensor
    groups: Any = optimizer.state_dict()["param_groups"]  # rates are set at each step, so the fresh ones will do
    optimizer.load_state_dict({"state": dict(slots), "param_groups": groups})
    for number, hook in enumerate(hooks):
        hook.load_state_dict(_below(f"hook.{number}", tensors))


def _own(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, persistent or not (masks are often not), each shared one once."""
    return dict(chain(model.named_parameters(), model.named_buffers()))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def _same_architecture(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    for name in chain(own, stored):
        ours, theirs = (
            f"{t.dtype} {tuple(t.shape)}" if (t := d.get(name)) is not None else "absent" for d in (own, stored)
        )
        if ours != theirs:
            raise WrongArchitecture(f"the checkpoint is of another model: {name} is {theirs} in it and {ours} here.")
