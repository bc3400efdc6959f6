"""Mixtures of experts: weighed all at once, or chosen by a top-k and reached by number, in ways that stay exact."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import WORDS, case
from torch import Tensor, nn

from secateur.groups.group import WIDTHS

BOTH, ALONE = (*WIDTHS, "expert"), ("expert",)
COUNT, TAKEN = 5, 2
STREAM = {"stem.weight:0": 6, "gate.weight:1": 6, "up:1": 6, "down:2": 6}


class Mixture(nn.Module):
    """A stem, five experts in two stacked weights, and a head; `mix` says how a word meets its experts."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.taken = COUNT, TAKEN
        self.stem, self.gate, self.head = nn.Linear(12, 6), nn.Linear(6, COUNT), nn.Linear(6, 3)
        self.up, self.down = nn.Parameter(torch.zeros(COUNT, 6, 4)), nn.Parameter(torch.zeros(COUNT, 4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        words = x.flatten(0, 1)
        return self.head(x + self.mix(words).view_as(x))

    def mix(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(words, 2) shares and numbers."""
        best, chosen = self.gate(x).softmax(-1).topk(self.taken)
        return best / best.sum(-1, keepdim=True), chosen

    def all(self, x: Tensor) -> Tensor:
        """(experts, words, width)."""
        return F.relu(x.expand(self.count, -1, -1) @ self.up) @ self.down


@case(
    WORDS,
    3,
    STREAM | {"gate.weight:0": 5, "up:0": 5, "down:0": 5, "up:2": 4, "down:1": 4},
    kinds=BOTH,
    reference="none",
)
class SoftMixture(Mixture):
    """Every word meets all."""

    def mix(self, x: Tensor) -> Tensor:
        return (self.all(x) * self.gate(x).softmax(-1).T[..., None]).sum(0)


@case(WORDS, 1, {"gate.weight:0": 5, "up:0": 5, "down:0": 5}, kinds=ALONE, reference="none")
class EinsumMixture(Mixture):
    """The products of experts and hidden units are one axis of a matrix: experts go, if they are asked for."""

    def mix(self, x: Tensor) -> Tensor:
        y = F.relu(torch.einsum("nd,edh->neh", x, self.up))
        return torch.einsum("neh,ehd,ne->nd", y, self.down, self.gate(x).sigmoid().softmax(-1))


@case(
    WORDS,
    3,
    STREAM | {"gate.weight:0": 5, "up:0": 5, "down:0": 5, "up:2": 4, "down:1": 4},
    kinds=BOTH,
    reference="none",
)
class GatheredMixture(Mixture):
    """Each word takes the weights of its two experts."""

    def mix(self, x: Tensor) -> Tensor:
        share, chosen = self.chosen(x)
        flat = chosen.reshape(-1)
        y = x.repeat_interleave(self.taken, 0)[:, None]
        y = (F.relu(y @ self.up[flat]) @ self.down[flat]).view(len(x), self.taken, -1)
        return (y * share[..., None]).sum(1)


@case(WORDS, 3, {"gate.weight:0": 5, "up:0": 5, "down:0": 5, "up:2": 4}, kinds=BOTH, reference="none")
class MarkedMixture(Mixture):
    """Ones at the numbers, multiplied with what all experts give."""

    def mix(self, x: Tensor) -> Tensor:
        share, chosen = self.chosen(x)
        mask = F.one_hot(chosen, self.count).to(x.dtype)
        return torch.einsum("nke,nk,end->nd", mask, share, self.all(x))


@case(WORDS, 3, {"gate.weight:0": 5, "up:0": 5, "down:0": 5, "up:2": 4}, kinds=BOTH, reference="none")
class ScatteredMixture(Mixture):
    """Shares written to where their experts are; a bias that only chooses, as in DeepSeek-V3."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lean", torch.zeros(COUNT))

    def mix(self, x: Tensor) -> Tensor:
        scores = self.gate(x).sigmoid()
        chosen = torch.topk(scores + self.lean, self.taken, sorted=False)[1]
        share = scores.gather(1, chosen)
        weights = torch.zeros_like(scores).scatter(1, chosen, share / share.sum(-1, keepdim=True))
        return (self.all(x) * weights.T[..., None]).sum(0)


@case(WORDS, 3, {"gate.weight:0": 5, "up:0": 5, "down:0": 5, "up:2": 4}, kinds=BOTH, reference="none")
class SwitchMixture(Mixture):
    """The best expert alone, of those that all have computed."""

    def mix(self, x: Tensor) -> Tensor:
        share, chosen = self.gate(x).softmax(-1).max(-1)
        return self.all(x)[chosen, torch.arange(len(x))] * share[:, None]


@case(
    WORDS, 3, {"gate.weight:0": 5, "lean:0": 5, "shift:0": 5, "lean:1": 4, "shift:1": 6}, kinds=BOTH, reference="none"
)
class TableMixture(Mixture):
    """Weights and biases looked up in tables, by `index_select`, as an embedding, by an index."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.lean = nn.Parameter(torch.zeros(COUNT, 6)), nn.Parameter(torch.zeros(COUNT, 4))

    def mix(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(-1)
        y = F.relu(torch.bmm(x[:, None], self.up.index_select(0, chosen)) + self.lean[chosen][:, None])
        return torch.bmm(y, self.down[chosen]).flatten(1) + F.embedding(chosen, self.shift)


@case(WORDS, 1, {"gate.weight:0": 4, "up:0": 4}, kinds=ALONE, reference="none")
class ByGroups(nn.Module):
    """Two groups of four, as in DeepSeek-V3: the better group, and in it the best two; each group loses alike."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.groups = 8, 2
        self.gate, self.head = nn.Linear(12, 8), nn.Linear(4, 3)
        self.up = nn.Parameter(torch.zeros(8, 12, 4))

    def forward(self, x: Tensor) -> Tensor:
        words = x.flatten(0, 1)
        scores = self.gate(words).sigmoid()
        each = scores.view(-1, self.groups, self.count // self.groups)
        best = each.topk(2)[0].sum(-1).topk(1)[1]
        mask = torch.zeros(len(words), self.groups).scatter(1, best, 1.0)
        mask = mask[..., None].expand(-1, self.groups, self.count // self.groups).reshape(-1, self.count)
        share, chosen = scores.masked_fill(mask == 0, -1.0).topk(2)
        y = (words[:, None, None] @ self.up[chosen]).squeeze(2)
        return self.head((y * share[..., None]).sum(1)).view(*x.shape[:2], -1)


class GroupedMixture(Mixture):
    """Rows sorted by expert, counted, and multiplied in one product, as transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Linear(12, 8), nn.Linear(8, 5), nn.Linear(8, 3)
        self.up, self.down = (nn.Parameter(torch.zeros(5, *s)) for s in ((8, 4), (4, 8)))
        self.shift = nn.Parameter(torch.zeros(5, 8))

    def ends(self, chosen: Tensor) -> Tensor:
        counts = torch.histc(chosen.float(), bins=self.count, min=0, max=self.count - 1)
        return counts.cumsum(0, dtype=torch.int32)

    def mix(self, x: Tensor) -> Tensor:
        share, chosen = self.chosen(x)
        chosen, order = chosen.flatten().sort()
        y = F.grouped_mm(x[order // self.taken], self.up, offs=self.ends(chosen))
        y = F.grouped_mm(F.relu(y), self.down, offs=self.ends(chosen)) + self.shift[chosen]
        y = y * share.flatten()[order, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return y[back].view(len(x), self.taken, -1).sum(1)
