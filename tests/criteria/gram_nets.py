"""Networks of two layers whose reader reads given numbers, and what it gives, channel by channel, by numpy."""

import numpy as np
import torch
from torch import nn

import secateur
from secateur.evidence.collect import collect


class Reads(nn.Module):
    """The first layer passes its input on; each reader sees (rows, C, m) as one window a row."""

    def __init__(self, weights):
        super().__init__()
        channels = weights[0].shape[1]
        self.first = nn.Conv1d(channels, channels, 1, bias=False)
        self.first.weight.data = torch.eye(channels, dtype=torch.float64)[:, :, None]
        self.readers = nn.ModuleList(nn.Conv1d(w.shape[1], w.shape[0], w.shape[2]) for w in weights)
        self.double()
        for layer, w in zip(self.readers, weights, strict=True):
            layer.weight.data = torch.from_numpy(np.ascontiguousarray(w))

    def forward(self, x):
        x = self.first(x)
        return [layer(x) for layer in self.readers]


def problem(x, *weights):
    """(group, evidence) of a network that reads x (rows, C, m) by weights (O, C, m)."""
    x = torch.from_numpy(np.ascontiguousarray(x))
    graph = secateur.trace(Reads(weights), x[:2])
    return graph["first"], collect(graph, {"inputs_gram"}, batches=[(x, None)])


def given(x, w, *, centre=False):
    """(rows * O, C): what each channel adds to each output, one column a channel."""
    z = np.einsum("scm,ocm->soc", x, w)
    return (z - z.mean(0) if centre else z).reshape(-1, x.shape[1])


def random(rows=40, channels=6, m=3, outputs=4, seed=0):
    """Correlated inputs of different size and mean, and weights."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((rows, channels, m)) @ rng.standard_normal((m, m))
    mixed = np.einsum("scm,cd->sdm", mixed, np.eye(channels) + 0.4 * rng.standard_normal((channels, channels)))
    x = mixed * rng.uniform(0.3, 2, (1, channels, 1)) + rng.standard_normal((1, channels, 1))
    return x, rng.standard_normal((outputs, channels, m))


def loss_of(x, w, kept, *, intercept):
    """The least |Y - X_kept V^T|^2 / |Y|^2 over all V on the kept channels, by numpy."""
    flat, target = x.reshape(len(x), -1), np.einsum("scm,ocm->so", x, w)
    columns = x[:, kept].reshape(len(x), -1)
    if intercept:
        target, columns = target - target.mean(0), columns - columns.mean(0)
    assert flat.shape[1] >= columns.shape[1]
    fit = columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
    return ((target - fit) ** 2).sum() / (target**2).sum()


def rescaled_loss(z, kept):
    """The least |y - Z_kept v|^2 / |y|^2 over one factor a channel, by numpy."""
    y = z.sum(1)
    fit = z[:, kept] @ np.linalg.lstsq(z[:, kept], y, rcond=None)[0]
    return ((y - fit) ** 2).sum() / (y**2).sum()
