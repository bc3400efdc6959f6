"""Recalibrate: measure the statistics of batch norms anew, which a cut has shifted. No labels, no gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..errors import NeedsData
from ..graph.example import Example, call
from ..graph.trace import undisturbed


def recalibrate(model: nn.Module, inputs: Iterable[Example]) -> nn.Module:
    """Set running means and variances, in place, to the plain average over these batches; returns the model.

    All else runs in eval mode; modes and everything else stay as they are. Raises `NeedsData` without batches.
    """
    held = list(inputs)
    if not held:
        raise NeedsData("recalibration needs batches of inputs, and none were given")
    kind = nn.modules.batchnorm._BatchNorm
    norms = [m for m in model.modules() if isinstance(m, kind) and m.track_running_stats]
    names = ("running_mean", "running_var")
    total = {(norm, name): torch.zeros_like(norm.get_buffer(name)) for norm in norms for name in names}
    for batch in held:
        with undisturbed(model), torch.no_grad():
            for norm in norms:
                norm.train()
                norm.momentum = 1.0  # the running statistics become those of this batch
            call(model, batch)
            for norm, name in total:
                total[norm, name] += norm.get_buffer(name)
    for (norm, name), seen in total.items():
        norm.get_buffer(name).copy_(seen / len(held))
    return model
