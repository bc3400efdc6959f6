"""Half the Fisher information times the square."""

import torch
import torch.nn.functional as F
from sparsity_cases import evidence_of, layer, noise

from nets import ALL, fresh
from secateur.sparsity.obd import OBD


def test_optimal_brain_damage_is_half_fisher_times_square():
    model, data = fresh("mlp").double(), [((ALL["mlp"].example + i).double(), torch.arange(2)) for i in range(3)]
    evidence = evidence_of(model, data[0][0], OBD(), data)
    fisher = 0
    for x, t in data:
        fisher = fisher + torch.autograd.grad(F.cross_entropy(model(x), t), model[2].weight)[0] ** 2 / 3
    torch.testing.assert_close(OBD().score("2.weight", evidence), 0.5 * fisher * model[2].weight.detach() ** 2)


def test_optimal_brain_damage_with_batches_of_one_example():
    """Of 1/2 sum h (w - t)^2, one example for each weight: g = h (w - t), and F = g^2 / 4."""
    w = noise(1, 4)
    model, x = layer(w), torch.eye(4, dtype=torch.float64)
    h = torch.tensor([0.5, 1, 2, 4]).double()
    data = [(x[i : i + 1], (w[0, i] - 1, h[i])) for i in range(4)]

    def loss(y, target):
        value, weight = target
        return weight * (y - value).square().sum() / 2

    score = OBD().score("weight", evidence_of(model, x, OBD(), data, loss))
    torch.testing.assert_close(score[0], 0.5 * h**2 * w[0] ** 2 / 4)
