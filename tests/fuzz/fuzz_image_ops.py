"""Ops on images (B,C,H,W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fuzz_ops import Op, divisors, op
from torch import nn


@op("conv")
class Conv(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        kernel = pick([1, 3])
        groups = pick([1, 1, 1, *divisors(value.width)])
        outs = [w for w in widths if w % groups == 0] or [groups * 2]
        options = {"out": pick(outs), "kernel": kernel, "groups": groups, "bias": pick([True, False])}
        if kernel == 3:
            options |= {"stride": pick([1, 1, 2]), "dilation": pick([1, 1, 2])}
        return options

    def __init__(self, values, out, kernel=1, groups=1, bias=True, stride=1, dilation=1):
        super().__init__()
        self.conv = nn.Conv2d(
            values[0].width, out, kernel, stride, kernel // 2 * dilation, dilation, groups=groups, bias=bias
        )

    def forward(self, x):
        return self.conv(x)


@op("depthwise")
class Depthwise(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"times": pick([1, 1, 2, 3]) if value.width <= 6 else 1, "bias": pick([True, False])}

    def __init__(self, values, times, bias):
        super().__init__()
        width = values[0].width
        self.conv = nn.Conv2d(width, width * times, 3, padding=1, groups=width, bias=bias)

    def forward(self, x):
        return self.conv(x)


@op("convt")
class Transposed(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        if max(value.shape[2:]) > 8:
            return None
        groups = pick([1, 1, *divisors(value.width)])
        outs = [w for w in widths if w % groups == 0] or [groups]
        return {"out": pick(outs), "kernel": pick([1, 2, 3]), "groups": groups, "bias": pick([True, False])}

    def __init__(self, values, out, kernel, groups, bias):
        super().__init__()
        stride = 2 if kernel == 2 else 1
        self.conv = nn.ConvTranspose2d(
            values[0].width, out, kernel, stride, 1 if kernel == 3 else 0, groups=groups, bias=bias
        )

    def forward(self, x):
        return self.conv(x)


@op("conv1d")
class Conv1d(Op):
    """Over the flattened map, or over tokens."""

    takes = "IT"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"out": pick(widths), "kernel": pick([1, 3]), "bias": pick([True, False])}

    def __init__(self, values, out, kernel, bias):
        super().__init__()
        self.tokens = values[0].tag == "T"
        self.conv = nn.Conv1d(values[0].width, out, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x):
        if self.tokens:
            return self.conv(x.transpose(1, 2)).transpose(1, 2)
        b, _, h, w = x.shape
        y = self.conv(x.flatten(2))
        return y.view(b, y.shape[1], h, w)


@op("conv3d")
class Conv3d(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"out": pick(widths), "depth": pick([1, 3])}

    def __init__(self, values, out, depth):
        super().__init__()
        self.conv = nn.Conv3d(values[0].width, out, (depth, 3, 3), padding=(depth // 2, 1, 1))
        self.norm = nn.BatchNorm3d(out)

    def forward(self, x):
        return self.norm(self.conv(torch.stack([x, x.tanh()], 2))).mean(2)


@op("bn")
class Bn(Op):
    takes = "IV"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"affine": pick([True, True, True, False])}

    def __init__(self, values, affine):
        super().__init__()
        cls = nn.BatchNorm2d if values[0].tag == "I" else nn.BatchNorm1d
        self.norm = cls(values[0].width, affine=affine)

    def forward(self, x):
        return self.norm(x)


@op("gn")
class Gn(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"groups": pick([1, *divisors(value.width)]), "affine": pick([True, True, False])}

    def __init__(self, values, groups, affine):
        super().__init__()
        self.norm = nn.GroupNorm(groups, values[0].width, affine=affine)

    def forward(self, x):
        return self.norm(x)


@op("shuffle")
class Shuffle(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        groups = divisors(value.width)[:-1]
        return {"groups": pick(groups), "how": pick(["computed", "minus", "numbers"])} if groups else None

    def __init__(self, values, groups, how):
        super().__init__()
        self.groups, self.how = groups, how

    def forward(self, x):
        b, c, h, w = x.shape
        if self.how == "computed":
            return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        if self.how == "minus":
            return x.view(b, self.groups, -1, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return x.unflatten(1, (int(self.groups), c // int(self.groups))).transpose(1, 2).flatten(1, 2)


@op("pixel_shuffle")
class PixelShuffle(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {} if value.width % 4 == 0 and max(value.shape[2:]) <= 8 else None

    def __init__(self, values):
        super().__init__()
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(x)


@op("pixel_unshuffle")
class PixelUnshuffle(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {} if value.width <= 4 and value.shape[2] % 2 == 0 and value.shape[3] % 2 == 0 else None

    def __init__(self, values):
        super().__init__()

    def forward(self, x):
        return F.pixel_unshuffle(x, 2)


@op("se")
class Squeeze(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"inner": pick([2, 3, 4]), "kind": pick(["conv", "linear", "eca"])}

    def __init__(self, values, inner, kind):
        super().__init__()
        width, self.kind = values[0].width, kind
        if kind == "eca":  # a convolution that runs along the channels
            self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        elif kind == "conv":
            self.down, self.up = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)
        else:
            self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        if self.kind == "eca":
            y = self.conv(x.mean((2, 3)).unsqueeze(1)).squeeze(1)
            return x * torch.sigmoid(y)[:, :, None, None]
        if self.kind == "conv":
            return x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        y = self.up(F.relu(self.down(x.mean((2, 3)))))
        return x * torch.sigmoid(y).view(x.shape[0], -1, 1, 1)


@op("pool")
class Pool(Op):
    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"kind": pick(["avg_pool2d", "max_pool2d", "spp", "up"])} if min(value.shape[2:]) >= 2 else None

    def __init__(self, values, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        if self.kind == "spp":
            y = F.max_pool2d(x, 3, 1, 1)
            return torch.cat([x, y, F.max_pool2d(y, 3, 1, 1)], 1)
        if self.kind == "up":
            return F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")
        return getattr(F, self.kind)(x, 2)
