"""Covariances of responses against NumPy on stored responses."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import fill, graph, images
from secateur.errors import BadModel, NeedsData
from secateur.evidence.collect import collect
from secateur.evidence.covariance import covariance, spectrum


def identity(width):
    """The hidden units are the inputs, so that responses can be planted."""
    net = nn.Sequential(nn.Linear(width, width, bias=False), nn.Identity(), nn.Linear(width, 2)).double().eval()
    net[0].weight.data.copy_(torch.eye(width))
    return net


def evidence(net, x, size=None):
    size = size or len(x)
    return collect(
        secateur.trace(net, x[:1]), {"covariance"}, batches=[(x[i : i + size], None) for i in range(0, len(x), size)]
    )


def of(net, x, size=None, group="0"):
    return covariance(secateur.trace(net, x[:1])[group], evidence(net, x, size))


@pytest.mark.parametrize("examples", [2, 5, 6, 7, 40], ids=lambda n: f"{n} examples of 6 units")
@pytest.mark.parametrize("size", [1, 4, 40])
def test_fewer_examples_than_units_and_more(examples, size):
    x = images(examples, 6).double() @ images(6, 6).double() + 3
    found = of(identity(6), x, size)
    np.testing.assert_allclose(found, np.cov(x.numpy().T, bias=True), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("examples", [4, 30])
def test_the_spectrum_is_that_of_the_covariance(examples):
    x = images(examples, 6).double() @ images(6, 6).double()
    net = identity(6)
    g = secateur.trace(net, x[:1])
    found = spectrum(g["0"], evidence(net, x))
    expected = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_responses_are_the_largest_values_over_positions():
    net = fill(nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 3), nn.ReLU(), nn.Flatten()))
    net = fill(nn.Sequential(*net, nn.Linear(3 * 16, 2))).double().eval()
    x = images(20, 1, 8, 8).double()
    with torch.no_grad():
        first, second = net[:2](x).amax((2, 3)).numpy(), net[:4](x).amax((2, 3)).numpy()
    for group, responses in (("0", first), ("2", second)):  # the second is read flattened, 16 positions a unit
        np.testing.assert_allclose(of(net, x, 7, group), np.cov(responses.T, bias=True), rtol=1e-9, atol=1e-13)


def test_the_first_layer_that_reads_a_group_counts():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            x = self.stem(x)
            return self.left(x.tanh()) + self.right(x.relu())

    net, x = fill(Two()).double().eval(), images(9, 4).double()
    with torch.no_grad():
        responses = net.stem(x).tanh().numpy()
    np.testing.assert_allclose(of(net, x, group="stem"), np.cov(responses.T, bias=True), rtol=1e-10)


@pytest.mark.parametrize("examples", [3, 50])
def test_what_never_varies_is_zero_exactly(examples):
    x = images(examples, 4).double()
    x[:, 1], x[:, 3] = 1e9 / 3, 0.0
    found = of(identity(4), x, 7)
    assert not found[[1, 3]].any()
    assert not found[:, [1, 3]].any()
    assert (found.diagonal()[[0, 2]] > 0).all()


def test_large_means_lose_no_digits():
    x = images(500, 3).double()
    np.testing.assert_allclose(of(identity(3), x + 1e8, 9), of(identity(3), x, 9), rtol=1e-6)


def test_responses_in_half_precision():
    net = identity(3).to(torch.bfloat16)
    x = images(20, 3).to(torch.bfloat16)
    np.testing.assert_allclose(of(net, x), np.cov(x.double().numpy().T, bias=True), rtol=1e-9, atol=1e-12)


def test_one_example_does_not_vary():
    x = images(3, 4).double()
    with pytest.raises(NeedsData, match="1 was given; give at least 2"):
        of(identity(4), x[:1])


def test_what_is_missing_is_said():
    g = graph("plain")
    found = collect(g, {"covariance"}, batches=[(images(3, 1, 8, 8), None)])
    del found.values["covariance"]["one.0"]
    with pytest.raises(BadModel, match="there are no covariance of"):
        covariance(g["one.0"], found)
    with pytest.raises(NeedsData, match="holds no covariance"):
        covariance(g["one.0"], collect(g, set()))
