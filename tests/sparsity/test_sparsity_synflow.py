"""Synaptic flow is conserved, and in rounds it never empties a layer."""

from itertools import pairwise

import pytest
import torch
from sparsity_cases import noise, relu_chain
from torch import nn

import secateur
from nets import ALL, fresh
from secateur.errors import BadModel, BadOption
from secateur.evidence.collect import collect
from secateur.sparsity.synflow import SynFlow


def scores_of(model, x):
    evidence = collect(secateur.trace(model, x), SynFlow.needs)
    return {n: SynFlow().score(n, evidence) for n, p in model.named_parameters() if p.dim() > 1}


def test_the_score_of_a_chain_by_paths():
    """As a part of R = 1^T |W3| |W2| |W1| 1: what comes to a weight from ones, times what goes on from it."""
    model = relu_chain(4, 6, 5, 3)
    w = [p.detach().abs() for p in model.parameters()]
    total = (w[2] @ w[1] @ w[0]).sum()
    found = list(scores_of(model, noise(1, 4)).values())
    for i in range(3):
        before, after = torch.ones(4).double(), torch.ones(3).double()
        for m in w[:i]:
            before = m @ before
        for m in reversed(w[i + 1 :]):
            after = m.T @ after
        torch.testing.assert_close(found[i], w[i] * after[:, None] * before / total)


def test_each_layer_holds_all_and_each_unit_gives_what_it_gets():
    model = relu_chain(5, 7, 6, 4)
    found = list(scores_of(model, noise(3, 5)).values())
    for s in found:
        assert float(s.sum()) == pytest.approx(1)
    for a, b in pairwise(found):
        torch.testing.assert_close(a.sum(1), b.sum(0))


def test_convolutions_conserve_it_too():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(12, 5, bias=False),
    )  # fmt: skip
    found = scores_of(model, noise(2, 2, 6, 6).float())
    assert [float(s.sum()) for s in found.values()] == pytest.approx([1, 1, 1])
    torch.testing.assert_close(found["0.weight"].sum((1, 2, 3)), found["2.weight"].sum((0, 2, 3)))
    into = found["5.weight"].sum(0).unflatten(0, (3, 4)).sum(1)
    torch.testing.assert_close(found["2.weight"].sum((1, 2, 3)), into)


@pytest.mark.parametrize("left", [3, 4, 10, 30])
def test_no_layer_is_emptied_as_long_as_there_is_a_weight_for_each(left):
    """Wide, narrow, wide: global magnitude empties the layers of small weights."""
    model = relu_chain(8, 20, 3, 10)
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
    size = sum(p.numel() for p in model.parameters())
    sparsity = f"{size - left}/{size}"
    found = secateur.sparsify(model, noise(1, 8), criterion="synflow", sparsity=sparsity)
    kept = [c.size - c.zeros for c in found.counts.values()]
    assert sum(kept) == left
    assert min(kept) >= 1
    flow = scores_of(found.model, noise(1, 8))
    assert float(sum(s.sum() for s in flow.values())) == pytest.approx(3)
    by_size = secateur.sparsify(model, noise(1, 8), sparsity=sparsity, scope="global")
    assert min(c.size - c.zeros for c in by_size.counts.values()) == 0


def test_rounds_nest_and_each_leaves_the_same_part():
    asked = []

    class Noted(SynFlow):
        def scores(self, names, evidence):
            weights = [evidence.weight(n) for n in names]
            asked.append(sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights))
            return super().scores(names, evidence)

    secateur.sparsify(relu_chain(8, 20, 10, 5), noise(1, 8), criterion=Noted(rounds=4), sparsity=0.9)
    assert asked == pytest.approx([0.1 ** (e / 4) for e in range(4)], abs=0.005)


def test_no_data_is_needed_and_the_exact_number_goes():
    model, x = fresh("plain"), ALL["plain"].example
    found = secateur.sparsify(model, x, criterion=SynFlow(rounds=5), sparsity=0.8)
    assert sum(c.zeros for c in found.counts.values()) == int(0.8 * 564)


def test_refusals():
    for bad in (0, 2.5, True):
        with pytest.raises(BadOption, match="rounds="):
            SynFlow(rounds=bad)
    dead = relu_chain(4, 5, 3)
    with torch.no_grad():
        dead[0].weight.zero_()
    with pytest.raises(BadModel, match=r"flow through the network is 0"):
        secateur.sparsify(dead, noise(1, 4), criterion="synflow", sparsity=0.5)
