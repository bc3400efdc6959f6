"""Mixtures of experts in which an expert cannot go: each says why, and all else is cut exactly."""

import pytest
import torch
import torch.nn.functional as F
from odd_case import WORDS, filled
from odd_experts import BOTH, GroupedMixture, Mixture

import secateur
from held import random_plan


class Loop(Mixture):
    """Each expert in turn, by its number."""

    def mix(self, x):
        share, chosen = self.chosen(x)
        y = torch.zeros_like(x)
        for e in range(len(self.up)):
            y = y + ((chosen == e) * share).sum(-1, keepdim=True) * (F.relu(x @ self.up[e]) @ self.down[e])
        return y


class Shifted(Mixture):
    """The neighbour of the best."""

    def mix(self, x):
        return (F.relu(x[:, None] @ self.up[(self.gate(x).argmax(-1) + 1) % self.count]) @ self.down[0]).squeeze(1)


class Sorted(Mixture):
    def mix(self, x):
        chosen = self.gate(x).argsort(-1, descending=True)[:, 0]
        return (F.relu(x[:, None] @ self.up[chosen]) @ self.down[chosen]).squeeze(1)


class Every(Mixture):
    """All of them, the best first."""

    def mix(self, x):
        share, chosen = self.gate(x).topk(self.count)
        return (F.relu(x[:, None, None] @ self.up[chosen]) @ self.down[chosen] * share[..., None, None]).sum((1, 2))


class Written(Mixture):
    """The count stands in the code."""

    def mix(self, x):
        share, chosen = self.chosen(x)
        return torch.einsum("nke,nk,end->nd", F.one_hot(chosen, 5).to(x.dtype), share, self.all(x))


class Refilled(Mixture):
    """Numbers written over."""

    def mix(self, x):
        chosen = self.gate(x).argmax(-1)
        chosen[0] = 0
        return (F.relu(x[:, None] @ self.up[chosen]) @ self.down[chosen]).squeeze(1)


class Given(Mixture):
    """Numbers in a tensor that was there before."""

    def mix(self, x):
        share, chosen = x.new_empty(len(x), 1), torch.empty(len(x), 1, dtype=torch.long)
        torch.topk(self.gate(x), 1, out=(share, chosen))
        return (F.relu(x[:, None] @ self.up[chosen[:, 0]]) @ self.down[chosen[:, 0]]).squeeze(1)


class Recounted(GroupedMixture):
    """Counts that are no longer counts when they are added up."""

    def ends(self, chosen):
        counts = torch.histc(chosen.float(), bins=self.count, min=0, max=self.count - 1)
        counts.view(-1).add_(0)
        return counts.cumsum(0, dtype=torch.int32)


class Winners(Mixture):
    """The largest two of a stream: values alone, no experts."""

    def mix(self, x):
        return x * x.topk(2).values[..., -1:] + self.gate(x).sum(-1, keepdim=True)


STAY = {
    Loop: ("gate", "number"),
    Shifted: ("gate", "the number of one of its indices is used"),
    Sorted: ("gate", "puts its indices into an order"),
    Every: ("gate", "puts its indices into an order"),
    Written: ("gate", "num_classes is the plain number 5"),
    Refilled: ("gate", "the number of one of its indices is used"),
    Given: ("gate", "puts its indices into an order"),
    Recounted: ("gate", "depends on the place along it"),
    Winners: ("stem", "aten.topk.default puts its indices into an order"),
}


@pytest.mark.parametrize("cls", STAY)
def test_what_cannot_follow_stays_by_name(cls):
    name, reason = STAY[cls]
    g = secateur.trace(filled(cls()), WORDS, kinds=BOTH)
    told = {f.name: f.reason for f in g.frozen}
    assert reason in told[name]
    if g.groups:
        assert secateur.cut(g, random_plan(g, keep=0.5)).check.max_error < 1e-6
