"""Energies of features against sums over paths written out, and rank correlations by hand."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import fill, images
from secateur.evidence.base import Sampling
from secateur.evidence.collect import collect
from secateur.evidence.inf_fs import energy, graph_of, inf_fs, spearman


def features(rows=30, count=5, seed=0):
    return torch.randn(rows, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_energy_is_the_sum_over_all_paths():
    """Paths of length l from a node: products of l edges, over all nodes that may come next."""
    edges = graph_of(features(count=3), 0.5)
    r = 0.1 / float(torch.linalg.eigvalsh(edges)[-1])
    total = torch.zeros(3, dtype=torch.float64)
    for length in range(1, 9):
        for start in range(3):
            for path in itertools.product(range(3), repeat=length):
                nodes = (start, *path)
                total[start] += np.prod([r * float(edges[a, b]) for a, b in itertools.pairwise(nodes)])
    torch.testing.assert_close(energy(edges, r), total, rtol=1e-7, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_geometric_series_whose_rest_is_bounded_by_the_spectral_radius(seed):
    x = features(seed=seed)
    edges = graph_of(x, 0.5)
    r = 0.9 / float(torch.linalg.eigvals(edges).abs().max())
    power, total = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    found = inf_fs(x)
    for length in range(1, 60):
        power = r * edges @ power
        total += power
        rest = torch.linalg.vector_norm(found - total)
        assert rest <= 0.9 ** (length + 1) / (1 - 0.9) * 5**0.5 + 1e-12  # |(rA)^l 1| <= 0.9^l |1|, A symmetric
    torch.testing.assert_close(found, total + power * 9, rtol=1e-2, atol=0)


def test_edges_by_hand():
    x = torch.tensor([[1.0, 10.0, 4.0], [2.0, 30.0, 3.0], [3.0, 20.0, 1.0]]).double()
    rho = spearman(x)
    assert rho[0, 1].item() == pytest.approx(0.5)  # ranks 1 2 3 and 1 3 2: 1 - 6 * 2 / (3 * 8)
    assert rho[0, 2].item() == pytest.approx(-1)
    edges = graph_of(x, 0.25)
    assert edges[0, 1].item() == pytest.approx(0.25 * 10 + 0.75 * 0.5)
    assert edges[0, 2].item() == pytest.approx(0.25 * x[:, 2].std().item())
    assert edges[1, 1].item() == pytest.approx(0.25 * 10)
    assert torch.equal(edges, edges.T)


def test_ties_stand_at_their_mean_rank():
    x = torch.tensor([[1.0, 1.0], [1.0, 2.0], [5.0, 2.0], [7.0, 9.0]]).double()
    ranks = np.array([[1.5, 1.5, 3, 4], [1, 2.5, 2.5, 4]])
    assert spearman(x)[0, 1].item() == pytest.approx(np.corrcoef(ranks)[0, 1])


def test_a_feature_that_repeats_another_counts_less_than_one_of_its_own():
    x = features(400, 3)
    x = (x - x.mean(0)) / x.std(0)
    scores = inf_fs(torch.cat([x[:, :1], x[:, :1], x[:, 1:2]], 1))
    assert scores[0] == pytest.approx(scores[1])
    assert scores[2] > 1.1 * scores[0]


def test_what_never_varies_is_worth_nothing_and_changes_nothing():
    x = features()
    dead = torch.cat([x, torch.full((30, 1), 7.0).double()], 1)
    torch.testing.assert_close(inf_fs(dead), torch.cat([inf_fs(x), torch.zeros(1).double()]))
    for rows in (1, 4):
        assert torch.equal(inf_fs(torch.ones(rows, 3)), torch.zeros(3).double())


@pytest.mark.parametrize("size", [1, 5, 12])
def test_the_first_rows_of_the_last_layer_however_they_are_cut(size):
    net = fill(nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))).double().eval()
    x = images(12, 3).double()
    graph = secateur.trace(net, x)
    batches = [(x[i : i + size], None) for i in range(0, 12, size)]
    with torch.no_grad():
        read = net[:2](x)
    for rows in (7, 500):
        found = collect(graph, {"inf_fs_responses"}, batches=batches, sampling=Sampling(images=rows))
        torch.testing.assert_close(found.of("inf_fs_responses", "2.weight")["responses"], inf_fs(read[:rows]))
