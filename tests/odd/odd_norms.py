"""Normalisations over the very axis that is cut, for which the reference runs over what is kept, and others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import FLAT, SQUARE, WORDS, case
from torch import Tensor, nn

from nets import Head


class Normed(nn.Module):
    """A convolution to 8 channels, `norm`, a convolution to 6, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3), Head(6)
        self.norm = self.make()

    def make(self) -> nn.Module:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.two(F.relu(self.norm(self.one(x))))))


def normed(units: int, affine: bool = True, **facts):
    own = {"norm.weight:0": units} if affine else {}
    return case(SQUARE, 2, {"one.weight:0": units, "two.weight:1": units, "two.weight:0": 6} | own, **facts)


@normed(8, reference="none")
class GroupNormOfAll(Normed):
    def make(self) -> nn.Module:
        return nn.GroupNorm(1, 8)


@normed(4, reference="none")
class GroupNormOfTwo(Normed):
    """Two groups: one channel of each goes at a time."""

    def make(self) -> nn.Module:
        return nn.GroupNorm(2, 8)


@normed(8)
class GroupNormOfEach(Normed):
    """A group for every channel: the number of groups follows."""

    def make(self) -> nn.Module:
        return nn.GroupNorm(8, 8)


@normed(8)
class InstanceNorm(Normed):
    def make(self) -> nn.Module:
        return nn.InstanceNorm2d(8, affine=True)


@normed(8, affine=False)
class InstanceNormPlain(Normed):
    def make(self) -> nn.Module:
        return nn.InstanceNorm2d(8)


@normed(8, reference="none")
class LayerNormOfMap(Normed):
    """Over channels, height and width together."""

    def make(self) -> nn.Module:
        return nn.LayerNorm([8, 6, 6])


class ChannelLast(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@normed(8, reference="none")
class ConvNextNorm(Normed):
    """NHWC for the norm only."""

    def make(self) -> nn.Module:
        return ChannelLast(8)


@normed(8, affine=False)
class BatchNormPlain(Normed):
    """No scale and no shift: the statistics alone follow."""

    def make(self) -> nn.Module:
        return nn.BatchNorm2d(8, affine=False)


@normed(8)
class PerChannelPReLU(Normed):
    def make(self) -> nn.Module:
        return nn.PReLU(8)


class Response(nn.Module):
    """ConvNeXt V2: the norm of each map, relative to the mean over maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        relative = norm / (norm.mean(dim=1, keepdim=True) + 1e-6)
        return self.bias.view(1, -1, 1, 1) + torch.addcmul(x, self.weight.view(1, -1, 1, 1), x * relative)


@normed(8, reference="none")
class GlobalResponseNorm(Normed):
    def make(self) -> nn.Module:
        return Response(8)


class Lengths(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.relu(), dim=1)


@normed(8, affine=False, reference="both")
class UnitLength(Normed):
    """Divided by the length over channels: silent channels add nothing to it."""

    def make(self) -> nn.Module:
        return Lengths()


@normed(8, affine=False, reference="none")
class SoftmaxOverChannels(Normed):
    """A softmax over channels: over those that are kept."""

    def make(self) -> nn.Module:
        return nn.Softmax(1)


@case(SQUARE, 1, {"two.weight:0": 6})
class LocalResponse(Normed):
    """AlexNet's: channels divide their neighbours, so that none may go, or not in any way a mask could say."""

    def make(self) -> nn.Module:
        return nn.LocalResponseNorm(3)


class RootMeanSquare(nn.Module):
    """Llama's, by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class PreNorm(nn.Module):
    """A residual stream of 8 with a norm before an MLP and one at the end."""

    norm: type[nn.Module] = nn.LayerNorm

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down, self.head = (nn.Linear(*s) for s in ((12, 8), (8, 7), (7, 8), (8, 3)))
        self.first, self.last = type(self).norm(8), type(self).norm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.down(F.silu(self.up(self.first(x))))
        return self.head(self.last(x))


PRENORM = {"stem.weight:0": 8, "first.weight:0": 8, "last.weight:0": 8, "head.weight:1": 8, "up.weight:0": 7}


@case(WORDS, 2, PRENORM | {"last.bias:0": 8}, reference="none")
class LayerNormStream(PreNorm):
    pass


@case(WORDS, 2, PRENORM, reference="none")
class RmsNormStream(PreNorm):
    norm = RootMeanSquare


@case(WORDS, 2, PRENORM, reference="none")
class TorchRmsNormStream(PreNorm):
    norm = nn.RMSNorm


@case(FLAT, 1, {"one.weight:0": 8, "norm.weight:0": 8}, reference="none")
class LayerNormByHand(nn.Module):
    """Mean and variance over features, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head, self.norm = nn.Linear(12, 8), nn.Linear(8, 3), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        return self.head((x - mean) / (var + 1e-5).sqrt() * self.norm.weight + self.norm.bias)


@case(FLAT, 1, {"one.weight:0": 8, "head.weight:1": 8}, reference="none")
class LayerNormAsFunction(nn.Module):
    """The shape is read from the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.head = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.head(F.layer_norm(x, x.shape[-1:]))


@case(SQUARE, 2, {"stem.weight:0": 8, "deep.weight:0": 8, "up.weight:0": 7, "scale:0": 8}, reference="none")
class ConvNextBlock(nn.Module):
    """Depthwise, NHWC, layer norm, an MLP, a scale for each channel, back, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.norm = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)
        self.up, self.down, self.scale = nn.Linear(8, 7), nn.Linear(7, 8), nn.Parameter(torch.ones(8))
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return self.head(x + y.permute(0, 3, 1, 2))
