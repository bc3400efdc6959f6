"""The protocol of Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019 (1810.05270): fine-tuned against the
same architecture trained from scratch, for the same epochs (Scratch-E) or the same compute (Scratch-B)."""

from __future__ import annotations

import torch
from torch import nn

from ..cost.cost import Cost
from ..training.recipe import Recipe
from ..training.seeds import seeded
from .config import Arm


def recipe_for(arm: Arm, train: Recipe, finetune: Recipe, before: Cost, after: Cost) -> Recipe:
    """Fine-tuning has its own recipe; Scratch-E trains as the dense model did; Scratch-B for int(E * F / F') epochs."""
    if arm == "finetune":
        return finetune
    return train.stretched(before.macs / after.macs) if arm == "scratch-b" else train


def reinitialise(model: nn.Module, seed: int) -> nn.Module:
    """Fresh weights in place, for the widths the model has now: nothing of the old ones is left. Returns the model.

    Convolutions from N(0, sqrt(2 / (k^2 C_out))), as in the paper's code; other layers by their own `reset_parameters`.
    """
    with seeded(seed), torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return model
