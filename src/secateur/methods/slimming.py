"""Network slimming. Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network
Slimming", ICCV 2017 (1708.06519).

Claim: an L1 penalty on the batch-norm scales while training lets one global threshold on |gamma| remove channels at
little loss. Departures: a budget sets the threshold; what a removed channel still gives, act(beta), is folded into its
readers (`folds=False` drops it, as the reference code does); `proximal=True` soft-thresholds after each step, which
reaches exact zeros where the sub-gradient oscillates by lr * penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..criteria.bn_scale import BNScale
from ..errors import BadOption
from .base import Method, method


@method("slimming")
@dataclass(frozen=True)
class Slimming(Method):
    """Train with penalty * sum |gamma|, then remove the channels of smallest |gamma| across all layers."""

    penalty_weight: float = 1e-4
    proximal: bool = False
    folds: bool = True
    paper = "Liu et al., ICCV 2017 (1708.06519)"
    criterion = BNScale()
    trains = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.penalty_weight < float("inf"):
            raise BadOption(f"penalty_weight={self.penalty_weight!r}: give a number from 0, such as 1e-4")

    @property
    def folds_means(self) -> bool:
        """The mean of a channel with a scale near zero is act(beta)."""
        return self.folds

    def after_backward(self, model: nn.Module, lr: float) -> None:
        """Sub-gradient: gamma.grad += penalty * sign(gamma), with sign(0) = 0."""
        if not self.proximal:
            for scale in scales(model):
                if scale.grad is not None:
                    scale.grad.add_(scale.detach().sign(), alpha=self.penalty_weight)

    def after_step(self, model: nn.Module, lr: float) -> None:
        """Proximal step: gamma <- sign(gamma) * max(|gamma| - lr * penalty, 0)."""
        if self.proximal:
            with torch.no_grad():
                for scale in scales(model):
                    scale.copy_(nn.functional.softshrink(scale, lr * self.penalty_weight))


def scales(model: nn.Module) -> list[nn.Parameter]:
    """The scale of every batch norm that has one that is trained."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [m.weight for m in norms if m.weight is not None and m.weight.requires_grad]
