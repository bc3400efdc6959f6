"""Eager: torch as it is, one operator after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..graph.example import Example
from .base import Engine, Runner, TorchRunner, engine, in_eval


@engine("eager")
@dataclass(frozen=True)
class Eager(Engine):
    """The model's own forward in `torch.inference_mode`."""

    def version(self) -> str:
        """Such as `torch 2.13.0`."""
        return f"torch {torch.__version__.partition('+')[0]}"

    def prepare(self, model: nn.Module, example: Example, *, threads: int = 1) -> Runner:
        """The model as it is; torch takes its threads from the process when it runs."""
        return TorchRunner(in_eval(model), example)
