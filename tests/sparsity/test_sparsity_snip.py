"""Connection sensitivity by closed form and finite differences."""

import pytest
import torch
import torch.nn.functional as F
from sparsity_cases import evidence_of, layer, noise, targets

import secateur
from nets import ALL, fresh
from secateur.sparsity.snip import SNIP


def squared(y, t):
    return (y - t).square().sum() / 2


def test_a_linear_net_with_a_squared_loss():
    """g = (W x - t) x^T, added up over examples; s = |w g| / sum."""
    w, x, t = noise(3, 5), noise(7, 5, seed=1), noise(7, 3, seed=2)
    evidence = evidence_of(layer(w), x, SNIP(), [(x, t)], squared)
    s = SNIP().scores(["weight"], evidence)["weight"]
    expected = (w * ((x @ w.T - t).T @ x)).abs()
    torch.testing.assert_close(s, expected / expected.sum())


def batches(name, count=2):
    x = ALL[name].example
    return [(x + i, torch.arange(len(x)) % 3) for i in range(count)]


@pytest.mark.parametrize("name", ["mlp", "plain", "nonorm"])
def test_the_scores_are_weight_times_gradient_and_sum_to_one(name):
    model, data = fresh(name).eval(), batches(name)
    evidence = evidence_of(model, ALL[name].example, SNIP(), data)
    names = [n for n, p in model.named_parameters() if p.dim() > 1]
    found = SNIP().scores(names, evidence)
    assert sum(float(s.sum()) for s in found.values()) == pytest.approx(1)
    loss = sum(F.cross_entropy(model(x), t) for x, t in data)
    gradients = torch.autograd.grad(loss, [model.get_parameter(n) for n in names])
    raw = {n: (model.get_parameter(n) * g).abs().double() for n, g in zip(names, gradients, strict=True)}
    total = sum(r.sum() for r in raw.values())
    for n in names:
        torch.testing.assert_close(found[n], (raw[n] / total).detach(), rtol=1e-4, atol=1e-9)


def test_it_is_the_derivative_by_a_factor_on_each_weight():
    model, (x, t), step = fresh("mlp").double(), batches("mlp")[0], 1e-6
    x = x.double()
    score = SNIP().score("2.weight", evidence_of(model, x, SNIP(), [(x, t)]))
    for i, j in ((0, 0), (3, 5), (6, 8)):
        losses = []
        for factor in (1 + step, 1 - step):
            other = fresh("mlp").double()
            with torch.no_grad():
                other[2].weight[i, j] *= factor
                losses.append(F.cross_entropy(other(x), t))
        assert float(abs(losses[0] - losses[1]) / (2 * step)) == pytest.approx(float(score[i, j]), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kept", [0.05, 0.5])
def test_one_ranking_of_all(kept):
    model = fresh("mlp")
    found = secateur.sparsify(
        model, ALL["mlp"].example, criterion="snip", sparsity=1 - kept, batches=batches("mlp"), loss=F.cross_entropy
    )
    every = sum(m.numel() for m in found.masks.values())
    assert sum(c.zeros for c in found.counts.values()) == int(every * (1 - kept) + 1e-9)
    evidence = evidence_of(model, ALL["mlp"].example, SNIP(), batches("mlp"))
    scores = torch.cat([s.flatten() for s in SNIP().scores(found.masks, evidence).values()])
    mask = torch.cat([m.flatten() for m in found.masks.values()])
    assert scores[~mask].max() <= scores[mask].min()


def test_no_gradient_at_all_is_a_tie():
    model = layer(torch.zeros(3, 5).double())
    found = secateur.sparsify(
        model, noise(2, 5), criterion="snip", sparsity=0.2, batches=targets(noise(4, 5) * 0), loss=F.cross_entropy
    )
    assert (~found.masks["weight"]).flatten().int().tolist() == [1, 1, 1] + [0] * 12
