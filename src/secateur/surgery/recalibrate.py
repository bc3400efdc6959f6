"""Recalibrate: measure the statistics of batch norms anew, which a cut has shifted. No labels, no gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..errors import NeedsData


def recalibrate(model: nn.Module, inputs: Iterable[Any]) -> nn.Module:
    """Set running means and variances, in place, to the plain average over these batches; returns the model.

    Modes and everything else stay as they are. Raises `NeedsData` when there are no batches.
    """
    held = list(inputs)
    if not held:
        raise NeedsData("recalibration needs batches of inputs, and none were given")
    with torch.random.fork_rng(devices=[]):  # dropout may draw
        torch.optim.swa_utils.update_bn(held, model)
    return model
