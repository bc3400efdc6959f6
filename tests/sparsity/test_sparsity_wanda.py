"""Wanda against magnitude, brute force, and norms of unfolded inputs."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from sparsity_cases import correlated, error, layer, noise, sparsified, targets
from torch import nn

import secateur
from secateur.errors import NeedsData
from secateur.sparsity.pattern import Pattern
from secateur.sparsity.wanda import Wanda

W = noise(6, 8)


def by_magnitude(weight, **options):
    return secateur.sparsify(layer(weight), noise(2, weight.shape[1]), criterion="magnitude", **options).masks["weight"]


def test_the_score_is_the_weight_times_the_norm():
    x = correlated(20, 8)
    mask, after = sparsified(W, x, "wanda", sparsity=0.5)
    score = W.abs() * x.norm(dim=0)
    expected = torch.ones_like(mask).scatter(1, score.argsort(1)[:, :4], False)
    assert torch.equal(mask, expected)
    assert torch.equal(after, W * mask)


@pytest.mark.parametrize("x", [torch.ones(5, 8, dtype=torch.float64), torch.linalg.qr(noise(20, 8))[0] * 3])
def test_inputs_of_one_norm_give_magnitude_row_by_row(x):
    assert torch.equal(sparsified(W, x, "wanda", sparsity=0.5)[0], by_magnitude(W, sparsity=0.5, scope="row"))


@pytest.mark.parametrize("sparsity", [0.1, 0.25, 0.5, 0.7, 0.9])
def test_every_row_has_its_zeros(sparsity):
    x = correlated(20, 10)
    mask, _ = sparsified(noise(6, 10), x, "wanda", sparsity=sparsity)
    assert (~mask).sum(1).tolist() == [round(sparsity * 10, 9) // 1] * 6


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 4), (4, 8), (3, 4)])
def test_every_run_has_its_zeros(keep, of):
    x = correlated(20, 16)
    mask, after = sparsified(noise(6, 16), x, "wanda", pattern=Pattern(keep=keep, of=of))
    assert (mask.unflatten(1, (-1, of)).sum(2) == keep).all()
    assert torch.equal(after == 0, ~mask)


def test_the_best_choice_for_inputs_that_do_not_depend_on_each_other():
    x = torch.linalg.qr(noise(20, 8))[0] * torch.linspace(0.2, 3, 8, dtype=torch.float64)
    _, after = sparsified(W, x, "wanda", sparsity=0.5)
    for row, made in zip(W, after, strict=True):
        tried = []
        for out in combinations(range(8), 4):
            other = row.clone()
            other[list(out)] = 0
            tried.append(error(row[None], other[None], x))
        assert error(row[None], made[None], x) == pytest.approx(min(tried), rel=1e-12)


def test_a_convolution_by_the_norms_of_its_patches():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 3)).double()
    x = noise(5, 2, 6, 6)
    found = secateur.sparsify(model, x, criterion="wanda", sparsity="1/3", include="0", batches=targets(x))
    score = model[0].weight.flatten(1).abs() * F.unfold(x, 3, padding=1).movedim(1, 2).flatten(0, 1).norm(dim=0)
    expected = torch.ones(4, 18, dtype=torch.bool).scatter(1, score.argsort(1)[:, :6], False)
    assert torch.equal(found.masks["0.weight"].flatten(1), expected)


class Block(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.a, self.b = (layer(noise(8, 8, seed=10 * i + j)) for j in range(2))

    def forward(self, x):
        return x + self.b(self.a(x).relu())


def test_blocks_see_what_pruned_blocks_before_them_give():
    """As the authors do: of each block the dense layers, behind pruned blocks."""
    model = nn.Sequential(Block(1), Block(2), layer(noise(3, 8)))
    x = noise(30, 8)
    found = secateur.sparsify(model, x, criterion="wanda", sparsity=0.5, batches=targets(x))
    seen, expected = x, {}
    for i in range(2):
        block = model[i]
        read = {"a": seen, "b": block.a(seen).relu()}
        for name, inputs in read.items():
            score = getattr(block, name).weight.abs() * inputs.norm(dim=0)
            expected[f"{i}.{name}.weight"] = torch.ones(8, 8, dtype=torch.bool).scatter(
                1, score.argsort(1)[:, :4], False
            )
        a, b = (getattr(block, n).weight * expected[f"{i}.{n}.weight"] for n in "ab")
        seen = seen + (seen @ a.T).relu() @ b.T
    for name, mask in expected.items():
        assert torch.equal(found.masks[name], mask), name
    at_once = secateur.sparsify(model, x, criterion=Wanda(sequential=False), sparsity=0.5, batches=targets(x))
    assert torch.equal(at_once.masks["0.a.weight"], found.masks["0.a.weight"])
    assert any(not torch.equal(at_once.masks[n], found.masks[n]) for n in expected)


def test_a_flat_net_is_taken_layer_by_layer():
    model = nn.Sequential(layer(noise(8, 8)), nn.ReLU(), layer(noise(4, 8, seed=1)))
    x = noise(30, 8)
    found = secateur.sparsify(model, x, criterion="wanda", sparsity=0.5, batches=targets(x))
    score = model[2].weight.abs() * found.model[0](x).relu().norm(dim=0)
    assert torch.equal(~found.masks["2.weight"], torch.zeros(4, 8).bool().scatter(1, score.argsort(1)[:, :4], True))


def test_inputs_that_are_never_there_go_first():
    x = correlated(20, 8)
    x[:, [1, 4]] = 0
    mask, _ = sparsified(W, x, "wanda", sparsity=0.25)
    assert (~mask).int().tolist() == [[0, 1, 0, 0, 1, 0, 0, 0]] * 6


def test_data_is_needed():
    with pytest.raises(NeedsData, match="product_squares must be collected"):
        secateur.sparsify(layer(W), noise(2, 8), criterion="wanda", sparsity=0.5)
