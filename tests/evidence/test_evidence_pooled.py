"""Zeros in front of pooling against NumPy on stored maps, over every way to pool, flatten and index."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, images
from secateur.evidence.collect import collect
from secateur.evidence.pooled import Pooling

WAYS = {
    "mean": lambda x: x.mean((2, 3)),
    "mean, negative": lambda x: x.mean(dim=[-1, -2]),
    "mean, kept": lambda x: x.mean((2, 3), keepdim=True).flatten(1),
    "mean of means": lambda x: x.mean(3).mean(-1),
    "sum": lambda x: x.sum((2, 3)),
    "amax": lambda x: x.amax(dim=(2, 3)),
    "adaptive": lambda x: torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1),
    "maximum": lambda x: F.adaptive_max_pool2d(x, 1).squeeze(3).squeeze(2),
    "indexed": lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    "one pool": lambda x: F.avg_pool2d(x, 6).view(x.size(0), -1),
    "dropped": lambda x: F.dropout(x.mean((2, 3)), 0.5, False),
    "max, flat": lambda x: F.max_pool2d(x, 2).flatten(1),
    "average, flat": lambda x: F.avg_pool2d(x, 2).reshape(x.size(0), -1),
    "overlapping": lambda x: F.max_pool2d(x, 3, 2, 1).flatten(1),
    "leaving out": lambda x: F.max_pool2d(x, 4).flatten(1),
    "pool of pools": lambda x: F.adaptive_avg_pool2d(F.max_pool2d(x, 2), 1).flatten(1),
    "module": lambda x: nn.Flatten()(nn.MaxPool2d(2)(x)),
    "last axis": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "flat, last axis": lambda x: F.max_pool2d(x, 2).permute(0, 2, 3, 1).flatten(1),
    "flat": lambda x: x.flatten(1),
}


class Ends(nn.Module):
    """What stands between the last convolution and what reads it."""

    def __init__(self, way, reader=None):
        super().__init__()
        self.way, self.conv = way, nn.Conv2d(1, 5, 3, padding=1)
        self.reader = reader or nn.Linear(self.way(torch.zeros(1, 5, 6, 6)).shape[1], 3)

    def forward(self, x):
        self.maps = F.relu(self.conv(x) - 0.3)
        return self.reader(self.way(self.maps))


def fields(net, x, group="conv", sizes=(4, 3)):
    """Of one group."""
    g = secateur.trace(net, x[:2])
    return collect(g, {"activations"}, batches=[(b, None) for b in x.split(list(sizes))]).of("activations", group)


def zeros(net, x):
    with torch.no_grad():
        net(x)
    return (net.maps.numpy() == 0).sum((0, *range(2, net.maps.dim())))


def assert_zeros(net, x):
    found, expected = fields(net, x), zeros(net, x)
    assert expected.min() < expected.max() < net.maps[:, 0].numel()
    np.testing.assert_array_equal(found["zeros"][0], expected)
    assert found["places"].tolist() == [net.maps[:, 0].numel()]
    assert found["floor"].tolist() == [[0.0] * 5]
    assert found["whole"].tolist() == [True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", WAYS)
def test_zeros_are_those_of_the_maps_before(way, dtype):
    assert_zeros(fill(Ends(WAYS[way])).to(dtype).eval(), images(7, 1, 6, 6).to(dtype))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(3, 2, 1), nn.AdaptiveMaxPool2d(3), nn.Identity()])
def test_a_convolution_behind_a_pool(pool):
    assert_zeros(fill(Ends(pool, nn.Conv2d(5, 2, 2))).eval(), images(7, 1, 6, 6))


@pytest.mark.parametrize("grad", [False, True])
def test_branches_that_pool_at_once(grad):
    """The first pool's result is read after a second one and a flattening; with gradients as without."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.other = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(1, 4, 3)
            self.one, self.two, self.three = nn.Linear(5, 3), nn.Linear(4, 3), nn.Linear(45, 3)

        def forward(self, x):
            self.maps = F.relu(self.conv(x) - 0.3)
            a, b = self.maps.mean((2, 3)), F.relu(self.other(x)).mean((2, 3))
            return self.three(F.max_pool2d(self.maps, 2).flatten(1)) + self.two(b) + self.one(a)

    net, x = fill(Branches()).eval(), images(7, 1, 6, 6)
    g = secateur.trace(net, x[:2])
    needs = {"activations", "gradients"} if grad else {"activations"}
    batches = [(x, torch.arange(7) % 3)]
    found = collect(g, needs, batches=batches).of("activations", "conv")
    np.testing.assert_array_equal(found["zeros"], np.stack([zeros(net, x)] * 2))
    assert found["places"].tolist() == [7 * 36] * 2


def test_one_dimension():
    class Signal(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.reader = nn.Conv1d(1, 5, 3, padding=1), nn.Linear(5, 3)

        def forward(self, x):
            self.maps = F.relu(self.conv(x) - 0.3)
            return self.reader(F.max_pool1d(self.maps, 3).mean(2))

    assert_zeros(fill(Signal()).eval(), images(7, 1, 9))


@pytest.mark.parametrize(
    "way",
    [
        lambda x: F.relu(F.avg_pool2d(x, 6).flatten(1) - 0.1),
        lambda x: F.avg_pool2d(x, 6).flatten(1).sub_(0.1).relu_(),
        lambda x: F.avg_pool2d(x, 6).sub_(0.1).relu_().flatten(1),
        lambda x: torch.einsum("bchw->bc", x),
    ],
    ids=["a ReLU behind", "in place", "in place, then flat", "a sum that is not seen"],
)
def test_what_something_else_has_become_of_is_counted_as_it_is_read(way):
    net, x = fill(Ends(way)).eval(), images(7, 1, 6, 6)
    found = fields(net, x)
    with torch.no_grad():
        net(x)
        read = way(net.maps.clone())
    np.testing.assert_array_equal(found["zeros"][0], (read == 0).sum(0))
    assert found["places"].tolist() == [7]
    assert found["whole"].tolist() == [False]


def test_other_sums_are_of_what_is_read():
    net, x = fill(Ends(WAYS["adaptive"])).double().eval(), images(7, 1, 6, 6).double()
    found = fields(net, x)
    with torch.no_grad():
        net(x)
    read = net.maps.mean((2, 3))
    assert found["count"].tolist() == [7]
    torch.testing.assert_close(found["sum"][0], read.sum(0))
    torch.testing.assert_close(found["square"][0], read.square().sum(0))
    assert torch.equal(found["lowest"][0], read.amin(0))
    assert torch.equal(found["highest"][0], read.amax(0))


def test_the_lowest_is_that_of_the_maps():
    """A maximum over space can hide that no ReLU stands in front of it."""
    net, x = Ends(lambda x: x.amax((2, 3))), images(7, 1, 6, 6)
    net.forward = lambda x: net.reader(net.way(net.conv(x)))
    found = fields(fill(net).eval(), x)
    with torch.no_grad():
        maps = net.conv(x)
    assert torch.equal(found["floor"][0], maps.amin((0, 2, 3)).double())
    assert torch.equal(found["lowest"][0], maps.amax((2, 3)).amin(0).double())


def test_nothing_is_held_of_what_is_gone():
    with Pooling() as pooling:
        x = images(2, 3, 4, 4)
        pooled = F.max_pool2d(x, 2)
        assert pooling.behind(pooled.view_as(pooled)) is not None
        for part in (pooled.narrow(1, 0, 2), pooled.mT, pooled.diagonal()):  # at the same address
            assert pooling.behind(part) is None
        at = pooled.data_ptr()
        assert pooling._made[at][0]() is pooled
        assert pooling._made[at][2].zeros.untyped_storage().nbytes() == 2 * 3 * 8  # one number for a map
        del pooled, part
        assert pooling._made[at][0]() is None
        assert pooling.behind(x) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sign", [1, -1])
def test_zeros_of_half_precision_are_not_counted_in_half_precision(dtype, sign):
    """60,025 ones would stop at 2,048 in float16, at 256 in bfloat16."""
    x = torch.full((1, 2, 245, 245), float(sign), dtype=dtype)
    x[0, 1, 0, :3] = 0
    with Pooling() as pooling:
        pooled = x.mean((2, 3))
        assert pooling.behind(pooled).zeros.tolist() == [[0, 3]]
        assert pooling.behind(pooled).values == 245**2
