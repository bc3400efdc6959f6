"""The contract, over every criterion by registration; and what of it is caught."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import torch
from sparsity_cases import layer, noise
from torch import nn

import secateur
from secateur.evidence.collect import collect
from secateur.sparsity.base import Laid, WeightCriterion, fields, normalised
from secateur.sparsity.pattern import Pattern
from secateur.sparsity.synflow import SynFlow
from secateur.sparsity.wanda import Wanda
from secateur.testing import check_weight_criterion


@pytest.mark.parametrize("name", sorted(secateur.weight_criteria()))
def test_every_criterion_keeps_the_contract(name):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
    check_weight_criterion(SynFlow(rounds=3) if name == "synflow" else name, network=(net, torch.zeros(2, 1, 8, 8)))


def test_wanda_that_looks_once_nests():
    check_weight_criterion(Wanda(sequential=False))


@dataclass(frozen=True)
class Good(WeightCriterion):
    def score(self, name, evidence):
        return evidence.weight(name).abs()


@dataclass(frozen=True)
class Flat(Good):
    def score(self, name, evidence):
        return super().score(name, evidence).flatten()


MOODS = count()


@dataclass(frozen=True)
class Moody(Good):
    def score(self, name, evidence):
        generator = torch.Generator().manual_seed(next(MOODS))
        return torch.rand(evidence.weight(name).shape, generator=generator)


@dataclass(frozen=True)
class Greedy(Good):
    def prune(self, name, evidence, pattern):
        return torch.zeros_like(self.score(name, evidence), dtype=torch.bool), None


@dataclass(frozen=True)
class Meddler(Good):
    def score(self, name, evidence):
        evidence.model.get_parameter(name).grad = torch.ones_like(evidence.weight(name))
        return super().score(name, evidence)


class NotFrozen(Good):
    pass


@dataclass(frozen=True)
class NotFinite(Good):
    def score(self, name, evidence):
        return super().score(name, evidence).log() * torch.inf


def test_a_good_one_passes():
    check_weight_criterion(Good())
    check_weight_criterion(Good(), network=(layer(noise(6, 8)).float(), torch.zeros(2, 8)))


@pytest.mark.parametrize(
    ("criterion", "law"),
    [
        (Flat(), r"contract: Flat .*gives \((72|120),\)"),
        (Moody(), "law 10: Moody.*other zeros"),
        (Greedy(), r"contract: Greedy.*zeros where"),
        (Meddler(), "law 10: Meddler"),
        (NotFrozen(), "contract: NotFrozen .*frozen dataclass"),
        (NotFinite(), "contract: NotFinite.*not finite"),
    ],
)
def test_those_who_break_it_are_named(criterion, law):
    with pytest.raises(AssertionError, match=law):
        check_weight_criterion(criterion)


def test_a_pattern_laid_on_a_weight():
    graph = secateur.trace(layer(noise(3, 4)), noise(1, 4))
    layout = secateur.sparsity.layout.find_weights(graph, "*", ()).layouts["weight"]
    scores = torch.arange(12.0).reshape(3, 4)
    held = torch.ones(3, 4, dtype=torch.bool)
    held[2, 3] = False
    laid = Laid("weight", Pattern(sparsity=0.5, scope="layer"), layout, 3, held)
    assert (~laid.mask(scores)).nonzero().tolist() == [[0, 0], [0, 1], [2, 3]]
    rows = Laid("weight", Pattern(sparsity=0.5, scope="row"), layout, 2, held)
    assert (~rows.mask(scores)).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 3]]
    runs = Laid("weight", Pattern(keep=1, of=2), layout, 0, held)
    assert runs.mask(scores).int().tolist() == [[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 1, 0]]


def test_scores_that_sum_to_one_or_to_nothing():
    found = normalised({"a": torch.tensor([1.0, -1]), "b": torch.tensor([2.0])})
    assert [f.tolist() for f in found.values()] == [[0.25, -0.25], [0.5]]
    assert normalised({"a": torch.zeros(2)})["a"].tolist() == [0, 0]


def test_the_base_defines_nothing():
    evidence = collect(secateur.trace(layer(noise(3, 4)), noise(1, 4)), {"weights"})
    with pytest.raises(NotImplementedError, match="WeightCriterion does not define score"):
        WeightCriterion().score("weight", evidence)
    with pytest.raises(secateur.SecateurError, match="holds no product_grams"):
        fields(evidence, "product_grams", "weight")


def test_every_criterion_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "sparsity.md").read_text()
    assert [name for name in secateur.weight_criteria() if f"| `{name}` |" not in page] == []
