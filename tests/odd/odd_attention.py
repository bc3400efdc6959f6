"""Attention in the ways people write it, inside one residual stream of 10 that can be cut too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import WORDS, case
from torch import Tensor, nn

HEADS, DIM, WIDTH = 3, 4, 10  # heads, numbers a head, the stream


class Attending(nn.Module):
    """Words to a stream, attention added to it, an MLP added to it, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(12, WIDTH), nn.Linear(WIDTH, 3)
        self.up, self.down = nn.Linear(WIDTH, 7), nn.Linear(7, WIDTH)
        self.heads, self.dim = HEADS, DIM
        self.parts()

    def parts(self) -> None:
        """One projection to queries, keys and values, one back."""
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * HEADS * DIM), nn.Linear(HEADS * DIM, WIDTH)

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.attend(x)
        return self.head(x + self.down(F.gelu(self.up(x))))


STREAM = {"stem.weight:0": WIDTH, "head.weight:1": WIDTH, "up.weight:1": WIDTH, "up.weight:0": 7, "down.weight:1": 7}
MLP = {"up.weight:0": 7, "down.weight:1": 7}


def attending(inner=None, groups=3, **facts):
    """Stream, MLP and heads can be cut; `inner`: what else than one qkv and one proj holds the heads."""
    heads = {"qkv.weight:0": HEADS, "proj.weight:1": HEADS, "qkv.bias:0": HEADS} if inner is None else inner
    return case(WORDS, groups, STREAM | heads, **({"reference": "both"} | facts))


@attending()
class Einsum(Attending):
    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.dim).unbind(2)
        weights = torch.einsum("bihd,bjhd->bhij", q, k).mul(self.dim**-0.5).softmax(-1)
        return self.proj(torch.einsum("bhij,bjhd->bihd", weights, v).reshape(b, n, self.heads * self.dim))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


@attending(reference="none")
class UnboundNormedTurned(Attending):
    """timm: qkv.unbind, then a norm of queries and keys, then rotary positions, then the fused product."""

    def parts(self) -> None:
        super().parts()
        self.q_norm, self.k_norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.register_buffer("cos", torch.rand(5, DIM))
        self.register_buffer("sin", torch.rand(5, DIM))

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = turned(self.q_norm(q), self.cos, self.sin), turned(self.k_norm(k), self.cos, self.sin)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@attending()
class IndexedQkv(Attending):
    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1) * 0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


@attending()
class FusedChunk(Attending):
    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        return self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))


@attending()
class FusedSplit(Attending):
    """GPT-2: split by an attribute, heads by attributes."""

    def parts(self) -> None:
        super().parts()
        self.split_size = HEADS * DIM

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split(self.split_size, dim=2)
        q, k, v = (t.view(*t.shape[:-1], -1, self.dim).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(y.reshape(*y.shape[:-2], -1).contiguous())


@attending()
class ScaledByShape(Attending):
    """The temperature is worked out from the queries' shape: whole heads leave it as it is."""

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


@attending({"qkv.weight:0": HEADS, "proj.weight:1": HEADS, "temperature:0": HEADS})
class CrossCovariance(Attending):
    """XCiT: channels attend to channels, with a temperature for each head."""

    def parts(self) -> None:
        super().parts()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 4, 1).unbind(0)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.proj((weights @ v).permute(0, 3, 1, 2).reshape(b, n, -1))


@attending({"qkv.weight:0": HEADS, "proj.weight:1": HEADS, "scale:1": HEADS})
class Cosine(Attending):
    """SwinV2: cosines instead of products, over numbers of a head; the temperature is bounded."""

    def parts(self) -> None:
        super().parts()
        self.scale = nn.Parameter(torch.ones(1, HEADS, 1, 1))

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        weights = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        weights = (weights * self.scale.clamp(max=4.6).exp()).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


@attending({"qkv.weight:0": HEADS, "before.weight:1": HEADS, "after.weight:0": HEADS, "proj.weight:1": HEADS}, 4)
class TalkingHeads(Attending):
    """Heads are mixed before and after the softmax."""

    def parts(self) -> None:
        super().parts()
        self.before, self.after = nn.Linear(HEADS, HEADS), nn.Linear(HEADS, HEADS)

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        weights = self.before((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
        weights = self.after(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


@attending()
class Causal(Attending):
    """A mask in a buffer, sliced by length, filled with minus infinity."""

    def parts(self) -> None:
        super().parts()
        self.register_buffer("past", torch.tril(torch.ones(9, 9, dtype=torch.bool)).view(1, 1, 9, 9))

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / 2).masked_fill(~self.past[:, :, :n, :n], float("-inf")).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


@attending({"qkv.weight:0": HEADS, "proj.weight:1": HEADS, "table:1": HEADS})
class RelativeBias(Attending):
    """A table of biases by distance and head, read by a buffer of positions."""

    def parts(self) -> None:
        super().parts()
        self.table = nn.Parameter(torch.zeros(9, HEADS))
        place = torch.arange(5)
        self.register_buffer("distance", (place[:, None] - place[None] + 4).flatten(), persistent=False)

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.distance].view(n, n, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2))


@case(WORDS, 2, STREAM, batch=None, frozen={"qkv": "no side can be cut"}, reference="both")
class PlainNumbers(Attending):
    """All sizes are written out: heads cannot go, everything else can."""

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 12))


@case(WORDS, 2, MLP | {"stem.weight:0": 3, "qkv.weight:0": 3}, reference="both")
class DimFromWidth(Attending):
    """timm of old: the numbers of a head are the stream's width over the heads, so that only slices of all
    heads go, with the stream: three times one number of each head."""

    def parts(self) -> None:
        self.stem, self.head = nn.Linear(12, 12), nn.Linear(12, 3)
        self.up, self.down = nn.Linear(12, 7), nn.Linear(7, 12)
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


@attending()
class Asserted(Attending):
    """The forward holds the stream to an attribute, which follows."""

    def parts(self) -> None:
        super().parts()
        self.width = WIDTH

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        assert c == self.width, "input embedding dimension does not match"
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1))
