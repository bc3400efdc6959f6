"""A model that can save itself with a config must not do so where the config no longer describes it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointError


def guard(model: nn.Module) -> None:
    """Make each `save_pretrained` in the model refuse while its config builds other shapes than the model has."""
    for module in model.modules():
        if callable(getattr(type(module), "save_pretrained", None)) and hasattr(module, "config"):
            module.__dict__["save_pretrained"] = partial(_save, module)


def _save(module: Any, *args: Any, **kwargs: Any) -> Any:
    """Save as the class does, if a model built from the config has these shapes; raises `CheckpointError` if not."""
    with torch.device("meta"):
        fresh = type(module)(module.config)
    theirs = {name: tuple(t.shape) for name, t in fresh.state_dict().items()}
    ours = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    for name in theirs | ours:
        if theirs.get(name) != ours.get(name):
            raise CheckpointError(
                f"save_pretrained would store a config that builds {name} as {theirs.get(name)}, and the pruned model "
                f"has {ours.get(name)}; use secateur.save(pruned, path), and secateur.load(path, into=fresh) with a "
                "model made from the original config"
            )
    return type(module).save_pretrained(module, *args, **kwargs)
