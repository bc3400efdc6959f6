"""Projection shortcuts, told from other 1x1 convolutions that write a group of several."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import Head, conv_bn, graph, images


def found(g):
    return {s.writer.path for group in g.groups for s in group.sources if s.projection}


def traced(net):
    return secateur.trace(net, images(1, 3, 8, 8))


class Block(nn.Module):
    """A branch and a shortcut; the branch ends with 1x1 where it is a bottleneck."""

    def __init__(self, before, after, *, bottle=False, project=True, excite=False):
        super().__init__()
        self.one, self.norm = nn.Conv2d(before, 5, 3, padding=1), nn.BatchNorm2d(before)
        self.two = nn.Conv2d(5, after, 1) if bottle else nn.Conv2d(5, after, 3, padding=1)
        self.short = nn.Conv2d(before, after, 1) if project else nn.Identity()
        self.down, self.up = (nn.Conv2d(5, 2, 1), nn.Conv2d(2, 5, 1)) if excite else (None, None)

    def forward(self, x):
        start = torch.relu(self.norm(x))
        inner = torch.relu(self.one(start))
        if self.down is not None:
            inner = inner * torch.sigmoid(self.up(torch.relu(self.down(inner.mean((2, 3), keepdim=True)))))
        return self.two(inner) + self.short(start if isinstance(self.short, nn.Conv2d) else x)


class Stages(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.stem, self.a, self.b = conv_bn(3, 4), Block(4, 7, **options), Block(7, 7, **options | {"project": False})
        self.head = Head(7)

    def forward(self, x):
        return self.head(self.b(self.a(self.stem(x))))


@pytest.mark.parametrize("options", [{}, {"bottle": True}, {"bottle": True, "excite": True}])
def test_the_1x1_convolution_around_a_branch(options):
    assert found(traced(Stages(**options))) == {"a.short"}


def test_the_end_of_a_bottleneck_is_none():
    """Nor where squeeze and excite reads what it reads: that leads back to the same layer alone."""
    stages = Stages(bottle=True, excite=True, project=False)
    stages.a = Block(4, 4, bottle=True, excite=True, project=False)
    stages.b = Block(4, 4, bottle=True, project=False)
    stages.head = Head(4)
    g = traced(stages)
    assert len(g["stem.0"].sources) == 3
    assert found(g) == set()


def test_a_shortcut_of_the_models_input():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = Block(3, 6), Head(6)

        def forward(self, x):
            return self.head(self.block(x))

    assert found(traced(Net())) == {"block.short"}


def test_a_layer_that_reads_the_stream_it_writes_is_none():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.two, self.head = conv_bn(3, 4), conv_bn(4, 4, 1), conv_bn(4, 4), Head(4)

        def forward(self, x):
            x = self.stem(x)
            x = x + self.one(x)
            return self.head(F.relu(x + self.two(x)))

    assert found(traced(Net())) == set()


def test_frozen_groups_on_the_way_do_not_hide_it():
    assert found(secateur.trace(Stages(), images(1, 3, 8, 8), frozen=["stem", "a.one"])) == {"a.short"}


def test_real_networks():
    assert found(graph("resnet18")) == {f"layer{n}.0.downsample.0" for n in (2, 3, 4)}
    assert found(graph("digits-resnet")) | found(graph("resnet20")) == set()
    assert found(graph("mobilenet_v2")) == found(graph("googlenet")) == set()


def test_bottlenecks():
    import torchvision

    with torch.device("meta"):
        g = secateur.trace(torchvision.models.resnet50(weights=None).eval(), torch.zeros(1, 3, 64, 64))
    assert found(g) == {f"layer{n}.0.downsample.0" for n in (1, 2, 3, 4)}
