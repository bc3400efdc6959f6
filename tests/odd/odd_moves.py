"""More nets whose forward moves channels: unfolding, outer products, masks, windows, layers after a view."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import FLAT, SQUARE, case
from odd_shapes import Between, between
from torch import Tensor, nn

from nets import Head, conv_bn


@between(4)
class Unflattened(Between):
    read = 4

    def __init__(self) -> None:
        super().__init__()
        self.parts = 2

    def move(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.parts, -1)).amax(1)


@between(8)
class StackedAndUnbound(Between):
    def move(self, x: Tensor) -> Tensor:
        a, b = torch.stack([x, x.tanh()], 1).unbind(1)
        return a * b


@between(8)
class Repeated(Between):
    read = 16

    def move(self, x: Tensor) -> Tensor:
        return x.repeat(1, 2, 1, 1)


@between(8)
class Interleaved(Between):
    read = 16

    def move(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 1)


@between(8)
class Expanded(Between):
    """The mean of each channel, spread over space again."""

    def move(self, x: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True).expand(-1, -1, x.shape[2], x.shape[3])


@between(8)
class ExpandedAs(Between):
    """One map weighs all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(8, 1, 1)

    def move(self, x: Tensor) -> Tensor:
        return x * self.gate(x).sigmoid().expand_as(x)


@between(8)
class Resized(Between):
    def move(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.interpolate(x, size=(5, 5), mode="bilinear", align_corners=False)
        return F.interpolate(x, size=(7, 6), mode="bicubic")


@between(8)
class MaskedFilled(Between):
    def move(self, x: Tensor) -> Tensor:
        corner = torch.ones(x.shape[2:], dtype=torch.bool, device=x.device).triu()
        return x.masked_fill(corner, 0.25)


@between(8)
class Where(Between):
    def move(self, x: Tensor) -> Tensor:
        return torch.where(x > 0.5, x, 0.1 * x)


@between(8)
class Clamped(Between):
    """Methods, functions and operators of every kind of element-wise call."""

    def move(self, x: Tensor) -> Tensor:
        x = F.sigmoid(x) + torch.full((1,), 0.5) - torch.zeros_like(x)
        return x.clamp(0.1, 0.9).pow(2).div_(3).neg().exp() * F.gelu(x) * F.silu(x) * F.mish(x)


@between(8)
class Windowed(Between):
    """Cut into windows of 4 by 4, and put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.mix = 4, nn.Linear(16, 16)

    def move(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s = self.side
        x = x.view(b, c, h // s, s, w // s, s).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, s * s)
        x = self.mix(x).view(b, h // s, w // s, c, s, s)
        return x.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


@case(SQUARE, 2, {"one.0.weight:0": 6, "two.weight:1": 6, "two.weight:0": 5})
class Unfolded(nn.Module):
    """A convolution as unfold and a linear layer: a channel is nine columns."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 6), nn.Linear(54, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(self.one(x), 3, padding=1, stride=2)  # (B, C * 9, L)
        return self.head(F.relu(self.two(columns.transpose(1, 2))).mean(1))


@case(SQUARE, 2, {"one.0.weight:0": 6, "two.weight:0": 5})
class FoldedBack(nn.Module):
    """Unfold, then fold: the sum of overlapping patches, channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 6), nn.Conv2d(6, 5, 3), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1)
        return self.head(F.relu(self.two(x)))


@case(FLAT, 2, {"last.weight:0": 7})
class Outer(nn.Module):
    """Products of all pairs, flattened: an index stands for two units, so that one side can go and the other stays."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 4), nn.Linear(12, 3)
        self.last, self.head = nn.Linear(12, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.einsum("bi,bj->bij", self.a(x), self.b(x)).flatten(1)
        return self.head(F.relu(self.last(pairs)))


@case(FLAT, 1, {"last.weight:0": 7})
class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.mix = nn.Linear(12, 4), nn.Linear(12, 3), nn.Bilinear(4, 3, 6)
        self.last, self.head = nn.Linear(6, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.last(F.relu(self.mix(self.a(x), self.b(x))))))


@case(FLAT, 2, {"first.weight:0": 6, "up.weight:0": 6, "up.weight:1": 4, "head.linear.weight:1": 4})
class LinearThenTransposed(nn.Module):
    """A generator: a linear layer, seen as maps of 6 channels, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 6
        self.first, self.up, self.head = nn.Linear(12, 24), nn.ConvTranspose2d(6, 4, 3, stride=2), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)).view(x.size(0), self.channels, 2, 2)
        return self.head(F.relu(self.up(x)))


@case(FLAT, 1, {"up.weight:1": 4, "head.linear.weight:1": 4}, frozen={"first": "no side can be cut"})
class LinearThenTransposedByNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.head = nn.Linear(12, 24), nn.ConvTranspose2d(6, 4, 3, stride=2), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)).view(-1, 6, 2, 2)
        return self.head(F.relu(self.up(x)))


@case(SQUARE, 3, {"stem.0.weight:0": 2, "mid.0.weight:0": 4, "last.0.weight:0": 5})
class GroupedAmongSlices(nn.Module):
    """Half of the channels go through a grouped convolution and are joined to the other half: two units of four."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid, self.last, self.head = conv_bn(1, 8), conv_bn(4, 8, groups=2), conv_bn(12, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        return self.head(self.last(torch.cat([self.mid(a), b], 1)))


@case(SQUARE, 2, {"one.0.weight:0": 6, "flat.weight:0": 7})
class FlattenedByEllipsis(nn.Module):
    """Newer ways to say the same: x[..., None], movedim, einsum, flatten(start_dim=-3)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.flat, self.head = conv_bn(1, 6), nn.Linear(6 * 4, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_max_pool2d(self.one(x), 2)
        x = x[..., None].squeeze(-1).movedim(1, -1).swapaxes(1, 2)
        return self.head(F.gelu(self.flat(x.flatten(start_dim=-3))))


@case(SQUARE, 2, {"one.0.weight:0": 6, "two.0.weight:0": 5})
class Pooled(nn.Module):
    """Pools of every kind side by side, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 6), conv_bn(30, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        pools = (
            F.max_pool2d(x, 2),
            F.avg_pool2d(x, 2),
            F.adaptive_avg_pool2d(x, 4),
            F.adaptive_max_pool2d(x, 4),
            F.lp_pool2d(x.abs() + 0.1, 2.0, 2),
        )
        return self.head(self.two(torch.cat(pools, 1)))
