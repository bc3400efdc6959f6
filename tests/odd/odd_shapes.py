"""Nets whose forward moves channels about: shuffles, flips, rolls, splits, slices, pads, folds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import SQUARE, case
from torch import Tensor, nn

from nets import Head, conv_bn


class Between(nn.Module):
    """A convolution to 8 channels, `move`, a convolution of `read` channels to 6, a head."""

    read = 8

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 8), conv_bn(self.read, 6), Head(6)

    def move(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.move(self.one(x))))


def between(units: int, groups: int = 2, **facts):
    """A `Between` whose first convolution can lose any of `units` units; 0: it must stay, whatever else goes."""
    first = {"one.0.weight:0": units, "two.0.weight:1": units} if units else {}
    return case(SQUARE, groups, {"two.0.weight:0": 6, "head.linear.weight:1": 6} | first, **facts)


@between(2)
class PixelShuffled(Between):
    """Four channels become one of twice the size."""

    read = 2

    def __init__(self) -> None:
        super().__init__()
        self.shuffle = nn.PixelShuffle(2)

    def move(self, x: Tensor) -> Tensor:
        return self.shuffle(x)


@between(8)
class PixelUnshuffled(Between):
    read = 32

    def move(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)


@between(8)
class SpaceToDepth(Between):
    """Pixel unshuffle written by hand, and space first in the new channels."""

    read = 32

    def move(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * 4, h // 2, w // 2)


@between(4)
class ChannelShuffled(Between):
    """ShuffleNet's: the i-th channels of both halves become neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = 2

    def move(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.parts, c // self.parts, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


@between(4)
class ChannelShuffledByTorch(Between):
    def move(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(x, 2)


@between(8)
class Flipped(Between):
    def move(self, x: Tensor) -> Tensor:
        return torch.flip(x, (1, 3))


@between(8)
class RolledInSpace(Between):
    def move(self, x: Tensor) -> Tensor:
        return torch.roll(x, (-2, 3), (2, 3))


@between(5, frozen={"one.0": "roll"})
class RolledChannels(Between):
    """A shift by a number of channels: as many as are carried around must stay."""

    def move(self, x: Tensor) -> Tensor:
        return x.roll(3, 1)


class Lambda(nn.Module):
    """A function as a module; nothing in it is an attribute a cut could rewrite."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@case(
    SQUARE,
    3,
    {"stem.0.weight:0": 6, "a.0.weight:0": 4, "last.0.weight:0": 4},
    frozen={"b.0": "padding is the plain number 2"},
)
class OptionA(nn.Module):
    """The shortcut of CIFAR ResNets: every second pixel, and zero channels that must stay, by numbers in a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv_bn(1, 6), conv_bn(6, 4, stride=2), conv_bn(4, 10)
        self.short = Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0))
        self.last, self.head = conv_bn(10, 4), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(F.relu(self.b(self.a(x)) + self.short(x))))


@case(SQUARE, 3, {"stem.0.weight:0": 6, "b.0.weight:0": 10, "a.0.weight:0": 4})
class OptionAByAttribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv_bn(1, 6), conv_bn(6, 5, stride=2), conv_bn(5, 10)
        self.front, self.back, self.head = 2, 2, Head(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.front, self.back))
        return self.head(F.relu(self.b(self.a(x)) + short))


@between(0, 1, frozen={"one.0": "slice"})
class FirstFive(Between):
    read = 5

    def move(self, x: Tensor) -> Tensor:
        return x[:, :5]


@between(0, 1, frozen={"one.0": "slice"})
class EverySecond(Between):
    read = 4

    def move(self, x: Tensor) -> Tensor:
        return x[:, ::2]


@between(5, frozen={"one.0": "plain number"})
class FirstAndRest(Between):
    """All of it is read, by numbers: what stands before the number must stay."""

    def move(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, 3:], x[:, :3]], 1)


@between(8)
class SlicedByAttribute(Between):
    def __init__(self) -> None:
        super().__init__()
        self.first = 3

    def move(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, self.first :], x[:, : self.first]], 1)


@between(0, 1, frozen={"one.0": "read by number"})
class IndexedByList(Between):
    def move(self, x: Tensor) -> Tensor:
        return x[:, [7, 2, 0, 1, 3, 6, 4, 5]]


@between(0, 1, frozen={"one.0": "read by number"})
class IndexedByBuffer(Between):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([7, 2, 0, 1, 3, 6, 4, 5]))

    def move(self, x: Tensor) -> Tensor:
        return x[:, self.order]


@between(8)
class Doubled(Between):
    read = 16

    def move(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


@between(8)
class SplitByAttributes(Between):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = 3, 5

    def move(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [self.small, self.large], 1)
        return torch.cat([b.sigmoid(), a], 1)


@between(8)
class SplitByList(Between):
    """The sizes are a list, whose numbers follow."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [3, 5]

    def move(self, x: Tensor) -> Tensor:
        a, b = x.split(self.sizes, dim=1)
        return torch.cat([b, a], 1)


@between(8)
class Narrowed(Between):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = 3, 5

    def move(self, x: Tensor) -> Tensor:
        return torch.cat([x.narrow(1, self.small, self.large), x.narrow(1, 0, self.small)], 1)


@between(8)
class CountedFromTheEnd(Between):
    def __init__(self) -> None:
        super().__init__()
        self.large = 5

    def move(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, -self.large :], x[:, : -self.large]], 1)


@between(0, 1, frozen={"one.0": ""})
class NarrowedByNumbers(Between):
    read = 4

    def move(self, x: Tensor) -> Tensor:
        return x.narrow(1, 2, 4)
