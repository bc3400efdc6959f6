"""Blocks of well-known vision nets, each reduced to what is odd about it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import FLAT, SQUARE, WORDS, case
from odd_shapes import Between, between
from torch import Tensor, nn

from nets import Head, conv_bn, images


@case(SQUARE, 3, {"stem.0.weight:0": 4, "a.0.weight:0": 5, "b.0.weight:0": 4, "last.0.weight:0": 6})
class ShuffleUnit(nn.Module):
    """ShuffleNetV2: one half passes, the other is worked on, both are shuffled together: all four move as one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.deep = conv_bn(1, 8), conv_bn(4, 5, 1), conv_bn(5, 5, groups=5)
        self.b, self.last, self.head = conv_bn(5, 4, 1), conv_bn(8, 6), Head(6)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, dim=1)
        x = torch.cat((a, self.b(self.deep(self.a(b)))), dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        return self.head(self.last(x))


@case(SQUARE, 3, {"stem.0.weight:0": 3, "a.0.weight:0": 3, "last.0.weight:0": 6})
class Res2Net(nn.Module):
    """Channels split by an attribute; each piece but the last is worked on together with the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.pool = 3, nn.AvgPool2d(3, 1, 1)
        self.stem, self.a, self.b = conv_bn(1, 9), conv_bn(3, 3), conv_bn(3, 3)
        self.last, self.head = conv_bn(9, 6), Head(6)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three = torch.split(self.stem(x), self.width, 1)
        one = self.a(one)
        two = self.b(one + two)
        return self.head(self.last(torch.cat([one, two, self.pool(three)], 1)))


@case(SQUARE, 2, {"main.0.weight:0": 4, "last.0.weight:0": 5})
class Ghost(nn.Module):
    """Half of the channels are cheap copies by a depthwise convolution; the join is cut to an attribute's length."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.cheap, self.out = conv_bn(1, 4), conv_bn(4, 4, groups=4), 8
        self.last, self.head = conv_bn(8, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.main(x)
        x = torch.cat([x, self.cheap(x)], 1)
        return self.head(self.last(x[:, : self.out, :, :]))


@case(SQUARE, 3, {"stem.0.weight:0": 6, "left.0.weight:0": 5, "right.0.weight:0": 5, "down.weight:0": 4})
class SelectiveKernel(nn.Module):
    """SKNet: two branches, a softmax between them for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = conv_bn(1, 6), conv_bn(6, 5), conv_bn(6, 5, dilation=2, padding=2)
        self.down, self.ups, self.head = nn.Linear(5, 4), nn.ModuleList(nn.Linear(4, 5) for _ in "ab"), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.stack([self.left(x), self.right(x)], 1)
        code = F.gelu(self.down(both.sum(1).mean((-2, -1))))
        shares = torch.stack([up(code) for up in self.ups], 1).softmax(1)
        return self.head((both * shares[..., None, None]).sum(dim=1))


@case(SQUARE, 2, {"one.0.weight:0": 8, "two.0.weight:0": 6, "down.weight:0": 4, "down.weight:1": 8}, reference="none")
class BlockAttention(Between):
    """CBAM: one MLP on the mean and the greatest of each map, then mean and greatest over channels weigh places."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.place = nn.Linear(8, 4), nn.Linear(4, 8), nn.Conv2d(2, 1, 3, padding=1)

    def code(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(x.flatten(1))))

    def move(self, x: Tensor) -> Tensor:
        scale = self.code(F.adaptive_avg_pool2d(x, 1)) + self.code(F.adaptive_max_pool2d(x, 1))
        x = x * scale.sigmoid().unsqueeze(2).unsqueeze(3).expand_as(x)
        seen = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * self.place(seen).sigmoid()


@case(SQUARE, 1, {"two.0.weight:0": 6}, frozen={"one.0": ""})
class NeighbourAttention(Between):
    """ECA: a convolution along channels, in which neighbours matter: they stay."""

    def __init__(self) -> None:
        super().__init__()
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def move(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3)).view(x.shape[0], 1, -1)
        return x * self.along(y).sigmoid().view(x.shape[0], -1, 1, 1).expand_as(x)


@between(8)
class Mirrored(Between):
    """CReLU: each channel and its negative."""

    read = 16

    def move(self, x: Tensor) -> Tensor:
        x = x - 0.5
        return torch.cat([x, -x], 1).relu()


@between(4)
class MaxOut(Between):
    """The greater of each two neighbours."""

    read = 4

    def move(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, c // 2, 2, h, w).max(2)[0]


@between(8)
class WithPlaces(Between):
    """CoordConv: two channels that say where one is."""

    read = 10

    def move(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(b, 1, h, w)
        columns = torch.linspace(-1, 1, w).view(1, 1, 1, w).expand(b, 1, h, w)
        return torch.cat([x, rows, columns], 1)


@case(
    SQUARE, 5, {"a.0.weight:0": 4, "b.0.weight:0": 5, "c.0.weight:0": 6, "side.0.weight:0": 7, "smooth.0.weight:1": 7}
)
class Pyramid(nn.Module):
    """FPN: maps of three sizes brought to one width and added from the top down; one head for all."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(1, 4), conv_bn(4, 5, stride=2), conv_bn(5, 6, stride=2)
        self.side = nn.ModuleList(nn.Conv2d(n, 7, 1) for n in (4, 5, 6))
        self.smooth, self.out = nn.ModuleList(nn.Conv2d(7, 3, 3, padding=1) for _ in "abc"), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = [x]
        for stage in (self.a, self.b, self.c):
            maps.append(stage(maps[-1]))
        top, found = None, {}
        for i in (2, 1, 0):
            side = self.side[i](maps[i + 1])
            top = side if top is None else side + F.interpolate(top, size=side.shape[-2:], mode="nearest")
            found[f"p{i}"] = self.out(F.relu(self.smooth[i](top)))
        return found


@case(SQUARE, 5, {"stem.0.weight:0": 6, "arms.0.0.weight:0": 4, "arms.2.1.0.weight:0": 4, "last.0.weight:1": 12})
class Aspp(nn.Module):
    """DeepLab: arms of many dilations and one that sees the mean, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last, self.head = conv_bn(1, 6), conv_bn(12, 5, 1), Head(5)
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn(6, 4, 1))
        self.arms = nn.ModuleList((conv_bn(6, 4, 1), conv_bn(6, 4, dilation=3, padding=3), pooled))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        arms = [F.interpolate(arm(x), size=x.shape[-2:], mode="bilinear", align_corners=False) for arm in self.arms]
        return self.head(self.last(torch.cat(arms, dim=1)))


@case((WORDS, FLAT), 2, {"up.weight:0": 7, "stem.weight:0": 6}, reference="none")
class AdaptiveNorm(nn.Module):
    """DiT: six chunks of one layer shift, scale and gate a stream, around norms without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.code, self.norm = nn.Linear(12, 6), nn.Linear(12, 36), nn.LayerNorm(6, elementwise_affine=False)
        self.mix, self.up, self.down, self.head = nn.Linear(6, 6), nn.Linear(6, 7), nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.stem(x)
        shift1, scale1, gate1, shift2, scale2, gate2 = self.code(F.silu(time)).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.mix(self.norm(x) * (1 + scale1.unsqueeze(1)) + shift1.unsqueeze(1))
        y = self.norm(x) * (1 + scale2.unsqueeze(1)) + shift2.unsqueeze(1)
        return self.head(x + gate2.unsqueeze(1) * self.down(F.gelu(self.up(y), approximate="tanh")))


@case((SQUARE, torch.tensor([3, 40])), 3, {"stem.weight:0": 6, "one.weight:0": 5, "time.0.weight:0": 7})
class TimeConditioned(nn.Module):
    """A diffusion block: sines of the step, an MLP, a shift for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, 7), nn.SiLU(), nn.Linear(7, 5))
        self.stem, self.one, self.two = (nn.Conv2d(*s, 3, padding=1) for s in ((1, 6), (6, 5), (5, 6)))
        self.out = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        rates = torch.exp(-torch.arange(4, dtype=x.dtype) * 2)
        angles = step[:, None].to(x.dtype) * rates[None]
        code = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
        x = self.stem(x)
        y = F.silu(self.one(F.silu(x))) + code[:, :, None, None]
        return self.out(F.silu(x + self.two(F.silu(y))))


EDGES = torch.tensor([[0, 1, 2, 3, 3, 1], [1, 2, 0, 1, 2, 3]])


@case((images(4, 12), EDGES), 2, {"one.weight:0": 6, "own.weight:0": 5, "near.weight:0": 5}, batch=None)
class GraphNet(nn.Module):
    """Messages along edges, added up where they arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.own, self.near, self.head = nn.Linear(12, 6), nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        arrived = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
        return self.head(F.relu(self.own(x) + self.near(arrived)))


@case(WORDS, 2, {"into.weight:0": 6, "deep.weight:0": 6, "rate.weight:0": 6, "a:0": 6, "out.weight:1": 6})
class StateSpace(nn.Module):
    """Mamba: a gate, a causal depthwise convolution, a scan over words with a state for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.state = 6, 4
        self.into, self.deep = nn.Linear(12, 12), nn.Conv1d(6, 6, 3, groups=6, padding=2)
        self.code, self.rate = nn.Linear(6, 2 + 8), nn.Linear(2, 6)
        self.a, self.d, self.out = nn.Parameter(torch.zeros(6, 4)), nn.Parameter(torch.zeros(6)), nn.Linear(6, 3)
        self.rank = 2

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        x, gate = self.into(x).chunk(2, dim=-1)
        x = F.silu(self.deep(x.transpose(1, 2))[..., :n]).transpose(1, 2)
        rate, write, read = self.code(x).split([self.rank, self.state, self.state], dim=-1)
        rate = F.softplus(self.rate(rate))
        decay = torch.exp(rate.unsqueeze(-1) * -self.a.exp())
        fresh = rate.unsqueeze(-1) * write.unsqueeze(2) * x.unsqueeze(-1)
        h, outs = torch.zeros(b, self.inner, self.state, dtype=x.dtype), []
        for t in range(n):
            h = decay[:, t] * h + fresh[:, t]
            outs.append((h * read[:, t].unsqueeze(1)).sum(-1))
        return self.out((torch.stack(outs, 1) + x * self.d) * F.silu(gate))
