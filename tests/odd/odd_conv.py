"""Convolutional nets: gates, joined branches, groups, other dimensions, strides, gating over space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import FLAT, SQUARE, WORDS, case
from torch import Tensor, nn

from nets import Head, conv_bn, images


@case(SQUARE, 2, {"one.0.weight:0": 5, "one.0.bias:0": 5, "two.weight:1": 5, "two.weight:0": 4})
class Glu(nn.Module):
    """The second half of the channels gates the first."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(1, 10, 3), nn.GLU(1))
        self.two, self.head = nn.Conv2d(5, 8, 3), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.glu(self.two(self.one(x)), 1))


@case(FLAT, 2, {"gate.weight:0": 7, "up.weight:0": 7, "down.weight:1": 7, "stem.weight:0": 6})
class SwiGlu(nn.Module):
    """The gated MLP of language models, in a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(12, 6), nn.Linear(6, 3)
        self.gate, self.up = nn.Linear(6, 7, bias=False), nn.Linear(6, 7, bias=False)
        self.down = nn.Linear(7, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.down(F.silu(self.gate(x)) * self.up(x)))


class Bottleneck(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = conv_bn(width, width), conv_bn(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.a(x))


@case(SQUARE, 4, {"cv1.0.weight:0": 4, "cv2.0.weight:1": 4, "m.1.a.0.weight:0": 4, "cv2.0.weight:0": 6})
class C2f(nn.Module):
    """YOLOv8: halves of one convolution, a list that grows, one join: both halves and all residuals lose the same."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2, self.head = conv_bn(1, 8, 1), conv_bn(16, 6, 1), Head(6)
        self.m = nn.ModuleList(Bottleneck(4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.head(self.cv2(torch.cat(y, 1)))


@case(SQUARE, 4, {"cv1.0.weight:0": 5, "cv5.0.weight:1": 10, "cv5.0.weight:0": 6, "cv6.0.weight:0": 4})
class SppElan(nn.Module):
    """YOLOv9: three pools in a row of one tensor, a parallel branch, five pieces joined."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv5 = conv_bn(1, 5, 1), conv_bn(1, 5), conv_bn(25, 6, 1)
        self.cv6, self.head = conv_bn(6, 4), Head(4)
        self.pools = nn.ModuleList(nn.MaxPool2d(5, 1, 2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        y.extend(pool(y[-1]) for pool in self.pools)
        return self.head(self.cv6(self.cv5(torch.cat([*y, self.cv2(x)], 1))))


@case(SQUARE, 2, {"stem.0.weight:0": 7, "again.0.weight:0": 7, "last.0.weight:0": 5})
class ThreeTimes(nn.Module):
    """One module run three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.last, self.head = conv_bn(1, 7), conv_bn(7, 7), conv_bn(7, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.again(x)
        return self.head(self.last(x))


@case(SQUARE, 4, {"stem.0.weight:0": 6, "blocks.1.b.0.weight:0": 6, "blocks.2.a.0.weight:0": 6})
class Stream(nn.Module):
    """A residual stream with three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv_bn(1, 6), Head(6)
        self.blocks = nn.Sequential(*(Bottleneck(6) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


@case(SQUARE, 3, {"stem.0.weight:0": 3, "mid.0.weight:0": 2, "mid.0.weight:1": 3, "last.0.weight:0": 5})
class GroupedConv(nn.Module):
    """Three groups, with a batch norm, and a grouped 1 x 1 after it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid, self.last = conv_bn(1, 9), conv_bn(9, 6, groups=3), conv_bn(6, 5)
        self.head = Head(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.mid(self.stem(x))))


@case(SQUARE, 3, {"stem.0.weight:0": 7, "expand.0.weight:0": 27, "deep.0.weight:0": 27, "squeeze.0.weight:0": 7})
class Inverted(nn.Module):
    """MobileNetV3: an odd width in a depthwise convolution, squeeze and excite by 1 x 1 convolutions, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand, self.deep = conv_bn(1, 7), conv_bn(7, 27, 1), conv_bn(27, 27, 5, groups=27)
        self.pool, self.down, self.up = nn.AdaptiveAvgPool2d(1), nn.Conv2d(27, 5, 1), nn.Conv2d(5, 27, 1)
        self.squeeze, self.head = conv_bn(27, 7, 1), Head(7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.deep(self.expand(x))
        y = y * F.hardsigmoid(self.up(F.silu(self.down(self.pool(y)))))
        return self.head(F.hardswish(x + self.squeeze(y)))


@case(images(2, 3, 16), 3, {"one.weight:0": 6, "deep.weight:0": 6, "up.weight:1": 5, "head.weight:1": 5})
class OneDimension(nn.Module):
    """Audio: strided, dilated, depthwise, transposed; the last with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.deep = nn.Conv1d(3, 6, 5, stride=2), nn.Conv1d(6, 6, 3, padding=2, dilation=2, groups=6)
        self.mid, self.up, self.head = nn.Conv1d(6, 4, 1), nn.ConvTranspose1d(4, 5, 4, stride=2), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.mid(F.elu(self.deep(F.gelu(self.one(x))))))
        return self.head(self.up(x).mean(-1))


@case(images(2, 1, 4, 6, 6), 3, {"one.0.weight:0": 5, "up.weight:1": 6, "two.weight:0": 4})
class ThreeDimensions(nn.Module):
    """Video: a batch norm, an output padding, a pool over time."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv3d(1, 5, 3, padding=1, bias=False), nn.BatchNorm3d(5), nn.ReLU())
        self.up = nn.ConvTranspose3d(5, 6, 3, stride=2, padding=1, output_padding=1)
        self.two, self.head = nn.Conv3d(6, 4, (1, 3, 3)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(F.relu(self.up(self.one(x))), (2, 1, 1))
        return self.head(F.relu(self.two(x)).mean((2, 3, 4)))


@case(SQUARE, 3, {"a.weight:0": 5, "b.weight:0": 6, "c.weight:0": 4})
class PadModes(nn.Module):
    """Circular, reflected and repeated edges; strides and dilations that differ by axis; padding="same"."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 5, 3, padding=1, padding_mode="circular")
        self.b = nn.Conv2d(5, 6, (3, 1), padding=(1, 0), padding_mode="reflect", stride=(1, 2))
        self.c = nn.Conv2d(6, 4, (1, 3), dilation=(1, 2), padding="same")
        self.pad, self.head = nn.ReplicationPad2d((1, 0, 2, 1)), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.c(self.pad(F.relu(self.b(F.relu(self.a(x))))))))


@case(SQUARE, 4, {"down.0.weight:0": 4, "mid.0.weight:0": 7, "up.weight:1": 5, "last.0.weight:1": 9})
class UNet(nn.Module):
    """Down, up, and the fine map joined to the coarse one."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.mid, self.up = conv_bn(1, 4), conv_bn(4, 7, stride=2), nn.ConvTranspose2d(7, 5, 2, stride=2)
        self.last, self.out = conv_bn(9, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down(x)
        return self.out(self.last(torch.cat([self.up(self.mid(fine)), fine], 1)))


@case(WORDS, 2, {"stem.weight:0": 6, "up.weight:0": 4, "down.weight:1": 4}, reference="none")
class SpatialGate(nn.Module):
    """gMLP: half of the channels, normalised and mixed over the five words, gates the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.norm = nn.Linear(12, 6), nn.Linear(6, 8), nn.LayerNorm(4)
        self.words, self.down, self.head = nn.Linear(5, 5), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        u, v = F.gelu(self.up(x)).chunk(2, dim=-1)
        v = self.words(self.norm(v).transpose(-1, -2)).transpose(-1, -2)
        return self.head(x + self.down(u * v))


@case(SQUARE, 3, {"stem.0.weight:0": 6, "update.weight:0": 6, "new.weight:0": 6})
class GatedUpdate(nn.Module):
    """RAFT: the step of a GRU by convolutions, run twice over a map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.state = conv_bn(1, 6), conv_bn(1, 6)
        self.update, self.reset, self.new = (nn.Conv2d(12, 6, 3, padding=1) for _ in range(3))
        self.last, self.head = conv_bn(6, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        h, x = torch.tanh(self.state(x)), self.stem(x)
        for _ in range(2):
            both = torch.cat([h, x], 1)
            z, r = self.update(both).sigmoid(), torch.sigmoid(self.reset(both))
            h = (1 - z) * h + z * torch.tanh(self.new(torch.cat([r * h, x], 1)))
        return self.head(self.last(h))
