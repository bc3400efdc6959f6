"""Small data and a small net with everything that makes resuming hard: dropout and running statistics."""

import pytest
import torch
from torch import nn


def make_net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        )


def make_examples(n=50):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 6, generator=generator)
    return x, x[:, :3].argmax(1)


@pytest.fixture
def net():
    return make_net()


@pytest.fixture
def new_net():
    return make_net


@pytest.fixture
def examples():
    return make_examples()
