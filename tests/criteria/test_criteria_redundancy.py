"""Redundancy of layers: closed forms, invariances, and what chance gives."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import HAND, OURS, graph
from secateur.criteria.redundancy import Redundancy, chance, of_group, of_kernels, of_layers, of_products, of_rows
from secateur.errors import BadModel
from secateur.evidence.base import Evidence


def random(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows, columns):
    return torch.linalg.qr(random(columns, columns))[0][:rows]


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (5, 20), (1, 3)])
def test_orthonormal_rows_have_none(rows, columns):
    found = of_rows(orthonormal(rows, columns))
    assert (found.spectral, found.similar, found.magnitude) == pytest.approx((0, 0, 0), abs=1e-12)
    assert found.combined == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(6, 9), (9, 4), (5, 5)])
def test_rows_that_are_equal_are_one(rows, columns):
    found = of_rows(random(1, columns).repeat(rows, 1))
    assert found.spectral == pytest.approx(1 - 1 / min(rows, columns))
    assert found.similar == pytest.approx(1)
    assert found.magnitude == pytest.approx(0, abs=1e-12)
    assert found.combined == pytest.approx(1)


@pytest.mark.parametrize(("rows", "columns"), [(4, 8), (6, 30)])
def test_duplicates_of_orthonormal_rows_halve_the_rank(rows, columns):
    found = of_rows(orthonormal(rows, columns).repeat(2, 1))
    assert found.spectral == pytest.approx(0.5, abs=1e-12)
    assert found.similar == pytest.approx(1)


def test_energy_in_few_units():
    weight = orthonormal(8, 8)
    weight[2:] *= 1e-9
    assert of_rows(weight).magnitude == pytest.approx(1 - 2 / 8)
    weight = orthonormal(4, 6) * torch.tensor([[1.0], [1.0], [2.0], [0.0]], dtype=torch.float64)
    q = np.array([1, 1, 4]) / 6
    assert of_rows(weight).magnitude == pytest.approx(1 - math.exp(-(q * np.log(q)).sum()) / 4)


def test_statistics_by_numpy():
    weight = random(7, 5)
    found, w = of_rows(weight), weight.numpy()
    u = w / np.linalg.norm(w, axis=1, keepdims=True)
    p = np.linalg.svd(u, compute_uv=False) ** 2 / 7
    assert found.spectral == pytest.approx(1 - math.exp(-(p * np.log(p)).sum()) / 5)
    cosines = [max((u[i] @ u[j]) ** 2 for j in range(7) if j != i) for i in range(7)]
    assert found.similar == pytest.approx(np.mean(cosines))
    q = (w**2).sum(1) / (w**2).sum()
    assert found.magnitude == pytest.approx(1 - math.exp(-(q * np.log(q)).sum()) / 7)


def test_order_and_positive_scale_of_units_do_not_matter():
    weight = random(9, 6) + 0.5
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    other = of_rows(weight[order] * torch.linspace(0.01, 50, 9, dtype=torch.float64)[:, None])
    found = of_rows(weight)
    assert (other.spectral, other.similar) == pytest.approx((found.spectral, found.similar))
    assert of_rows(weight[order]).magnitude == pytest.approx(found.magnitude)
    assert other.magnitude > found.magnitude + 0.1


@pytest.mark.parametrize(("rows", "columns"), [(16, 9), (32, 288), (64, 64), (128, 1152), (300, 40)])
def test_gaussian_layers_are_near_zero_beyond_chance(rows, columns):
    found = of_rows(random(rows, columns, seed=rows))
    assert found.spectral_beyond_chance < 0.03
    assert found.similar_beyond_chance < 0.03
    assert abs(found.spectral - found.chance_spectral) < 0.03
    assert abs(found.similar - found.chance_similar) < 0.03
    assert found.spectral > 0.8 * found.chance_spectral > 0  # before the correction it is not near zero


@pytest.mark.parametrize("columns", [2, 3, 10])
def test_the_similarity_of_two_random_rows_is_one_over_their_length(columns):
    """E cos^2 = 1 / d."""
    found = np.mean([chance(2, columns, seed)[1] for seed in range(12)])
    assert found == pytest.approx(1 / columns, rel=0.12)


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (5, 12), (8, 3)])
def test_chance_is_the_mean_over_gaussian_rows(rows, columns):
    """Drawn row by row; the baseline of wide rows draws the factor of their products instead."""
    drawn = [of_products(x @ x.T, columns) for x in (random(rows, columns, seed) for seed in range(400))]
    expected = np.mean([[r.spectral, r.similar] for r in drawn], 0)
    found = np.mean([chance(rows, columns, seed) for seed in range(10)], 0)
    np.testing.assert_allclose(found, expected, rtol=0.08)


def test_chance_is_the_same_for_the_same_seed_and_found_once():
    chance.cache_clear()
    first = chance(12, 30, seed=5)
    assert chance(12, 30, seed=5) == first != chance(12, 30, seed=6)
    assert chance.cache_info().hits == 1
    chance.cache_clear()
    assert chance(12, 30, seed=5) == first
    state = torch.get_rng_state()
    chance(13, 30)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_combination():
    found = Redundancy(spectral=0.6, similar=0.3, magnitude=0.2, chance_spectral=0.2, chance_similar=0.4)
    assert found.spectral_beyond_chance == pytest.approx(0.5)
    assert found.similar_beyond_chance == 0  # below chance
    assert found.combined == pytest.approx(1 - 0.5 * 1 * 0.8)
    assert Redundancy(0.0, 1.0, 0.0, 0.0, 1.0).similar_beyond_chance == 0  # chance leaves nothing


def test_rows_of_zeros_are_redundant_and_finite():
    weight = orthonormal(8, 8)
    weight[:4] = 0
    found = of_rows(weight)
    assert found.spectral == pytest.approx(0.5)
    assert found.similar == pytest.approx(0.5)
    assert found.magnitude == pytest.approx(0.5)
    nothing = of_rows(torch.zeros(6, 4))
    assert (nothing.spectral, nothing.similar, nothing.magnitude) == pytest.approx((3 / 4, 1, 5 / 6))
    for shape in ((1, 1), (1, 5), (5, 1), (2, 2)):
        found = of_rows(torch.zeros(shape)).combined, of_rows(torch.ones(shape)).combined
        assert all(0 <= f <= 1 for f in found)


def test_coupled_layers_are_joined_whatever_their_scale():
    g = graph("padded")
    stem, block = (g.model.get_parameter(n).detach().double().flatten(1) for n in ("stem.0.weight", "b.0.weight"))
    block = block[1:7]  # stem channel i meets channel 1 + i of the block
    joined = of_rows(
        torch.cat([stem / stem.square().mean().sqrt(), 100 * block / (100 * block).square().mean().sqrt()], 1)
    )
    found = of_group(g["stem.0"], Evidence(g.model))
    assert found.combined == pytest.approx(joined.combined)
    assert (found.spectral, found.similar, found.magnitude) == pytest.approx(
        (joined.spectral, joined.similar, joined.magnitude)
    )
    each = of_layers(g["stem.0"], Evidence(g.model))
    assert set(each) == {"stem.0.weight", "b.0.weight"}
    assert each["stem.0.weight"] == of_rows(stem)
    assert each["b.0.weight"].magnitude == of_rows(block).magnitude


def test_joined_narrow_layers():
    """Fewer weights in all than units: the eigenvalues come from the other side."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(3, 12), nn.Linear(4, 12), nn.Linear(12, 2)

        def forward(self, x):
            return self.head((self.a(x[:, :3]) + self.b(x)).relu())

    g = secateur.trace(Net(), torch.zeros(2, 4))
    weights = (g.model.a.weight.detach().double(), g.model.b.weight.detach().double())
    joined = torch.cat([w / w.square().mean().sqrt() for w in weights], 1)
    found, other = of_group(g["a"], Evidence(g.model)), of_products(joined @ joined.T, 7)
    assert found.spectral == pytest.approx(other.spectral, abs=1e-12)
    assert found.combined == pytest.approx(other.combined)


def test_joined_gaussian_layers_are_near_zero_beyond_chance():
    """Layers of other widths and scales: joined they are as one Gaussian layer."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(300, 64), nn.Linear(40, 64), nn.Linear(64, 2)
            for layer, scale in ((self.a, 0.01), (self.b, 5.0)):
                layer.weight.data = scale * random(64, layer.in_features, layer.in_features).float()

        def forward(self, x):
            return self.head((self.a(x) + self.b(x[:, :40])).relu())

    g = secateur.trace(Net(), torch.zeros(2, 300))
    found = of_group(g["a"], Evidence(g.model))
    assert found.spectral_beyond_chance < 0.01
    assert found.similar_beyond_chance < 0.01


@pytest.mark.parametrize("name", HAND | OURS)
def test_all_groups_of_all_networks(name):
    g = graph(name)
    for group in g.groups:
        for found in (of_group(group, Evidence(g.model)), *of_layers(group, Evidence(g.model)).values()):
            assert 0 <= found.combined <= 1
            assert all(0 <= x <= 1 for x in (found.spectral, found.similar, found.magnitude))


def test_a_group_that_no_weight_writes_is_refused():
    g = graph("plain")
    group = g["one.0"]
    bare = type(group)(group.name, group.size, group.members, (), group.classes)
    with pytest.raises(BadModel, match=r"no layer writes group 'one\.0'"):
        of_group(bare, Evidence(g.model))


def test_kernels_that_are_multiples_of_one():
    kernel = random(1, 9)
    assert of_kernels((random(20, 1) @ kernel).reshape(5, 4, 3, 3)) == pytest.approx(1 - 1 / 9)
    assert of_kernels(torch.eye(9).reshape(9, 1, 3, 3)) == pytest.approx(0)
    assert of_kernels(random(6, 4).reshape(6, 4, 1, 1)) == pytest.approx(0)
