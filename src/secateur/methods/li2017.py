"""The predefined networks of Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (1608.08710), table 1.

Claim: VGG-16-A, ResNet-56-A/B and ResNet-110-A/B keep the accuracy of the whole network, and ResNet-34-A/B come near it
on ImageNet. Convolutions are numbered in the order they run, 1 = the first; 1x1 projections are not counted. In
residual networks only the first convolution of a block is pruned (even numbers), and some are skipped. A layer of C
filters keeps int(C * (1 - ratio)), by L1 norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

from ..cost.budget import Budget
from ..criteria.l1 import L1
from ..errors import PlanError, UnknownName
from ..evidence.base import Batches, Loss
from ..graph.record import Writer
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..prune import score
from .base import Method, method


@dataclass(frozen=True)
class Config:
    """Per stage: the number of its last convolution, and the fraction removed there."""

    convolutions: int
    stages: tuple[tuple[int, str], ...]
    skip: frozenset[int] = frozenset()
    step: int = 2  # every second convolution opens a residual block; 1 = a plain network

    def removed(self, number: int) -> Fraction:
        """Fraction of filters removed from the convolution with this number."""
        if number in self.skip or number % self.step:
            return Fraction(0)
        return next(Fraction(ratio) for last, ratio in self.stages if number <= last)


STAGE_ENDS_34 = frozenset({2, 8, 14, 16, 26, 28, 30, 32})  # and the whole last stage
CONFIGS = {
    "vgg16-a": Config(13, ((1, "0.5"), (7, "0"), (13, "0.5")), step=1),
    "resnet56-a": Config(55, ((18, "0.1"), (36, "0.1"), (55, "0.1")), frozenset({16, 20, 38, 54})),
    "resnet56-b": Config(55, ((18, "0.6"), (36, "0.3"), (55, "0.1")), frozenset({16, 18, 20, 34, 38, 54})),
    "resnet110-a": Config(109, ((36, "0.5"), (72, "0"), (109, "0")), frozenset({36})),
    "resnet110-b": Config(109, ((36, "0.5"), (72, "0.4"), (109, "0.3")), frozenset({36, 38, 74})),
    "resnet34-a": Config(33, ((7, "0.3"), (15, "0.3"), (27, "0.3"), (33, "0")), STAGE_ENDS_34),
    "resnet34-b": Config(33, ((7, "0.5"), (15, "0.6"), (27, "0.4"), (33, "0")), STAGE_ENDS_34),
}


@method("li2017")
@dataclass(frozen=True)
class Predefined(Method):
    """One of the published configurations; the budget is ignored, for the configuration is the budget."""

    config: str = "resnet56-a"
    paper = "Li et al., ICLR 2017 (1608.08710), table 1"
    criterion = L1()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.config not in CONFIGS:
            raise UnknownName("configuration of Li et al.", self.config, CONFIGS)

    def plan(
        self,
        graph: Graph,
        budget: Budget | None = None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """The published widths, filled with the filters of largest L1 norm. Raises `PlanError` for another network."""
        config = CONFIGS[self.config]
        convolutions = [w for w in graph.trace.writers if w.kind == "conv" and any(k > 1 for k in w.kernel)]
        if len(convolutions) != config.convolutions:
            raise PlanError(
                f"configuration {self.config!r} is for {config.convolutions} convolutions, this network has "
                f"{len(convolutions)}; known: {', '.join(CONFIGS)}"
            )
        scores = score(graph, self.criterion)
        kept = {}
        for number, writer in enumerate(convolutions, start=1):
            removed = config.removed(number)
            if removed:
                name = _group_of(graph, writer)
                values = scores[name]
                top = torch.argsort(values, descending=True, stable=True)[: int(values.numel() * (1 - removed))]
                kept[name] = sorted(top.tolist())
        return Plan.keeping(graph, kept)


def _group_of(graph: Graph, writer: Writer) -> str:
    for group in graph.groups:
        if any(s.writer.weight == writer.weight for s in group.sources):
            return group.name
    raise PlanError(f"no group that can be pruned is written by {writer.path!r}")
