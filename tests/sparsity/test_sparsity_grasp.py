"""GraSP on a quadratic, and against an explicit Hessian."""

import pytest
import torch
import torch.nn.functional as F
from sparsity_cases import evidence_of, layer, noise, relu_chain, targets
from torch.func import functional_call, hessian

import secateur
from secateur.errors import BadOption
from secateur.sparsity.grasp import GraSP

PLAIN = GraSP(temperature=1)


def test_a_quadratic_loss():
    """L = theta^T A theta / 2: g = A theta, H = A, and what goes first is the largest -theta * (A A theta)."""
    theta, half = noise(1, 6), noise(6, 6, seed=1)
    a = half @ half.T
    x = torch.eye(6, dtype=torch.float64)

    def quadratic(y, _):
        return 0.5 * y[:, 0] @ a @ y[:, 0]

    evidence = evidence_of(layer(theta), x, PLAIN, [(x, None)], quadratic)
    score = PLAIN.score("weight", evidence)[0]
    expected = theta[0] * (a @ a @ theta[0])
    torch.testing.assert_close(score, expected)
    found = secateur.sparsify(
        layer(theta),
        x,
        criterion=PLAIN,
        sparsity=0.5,
        batches=[(x, None)],
        loss=lambda y, _: 0.5 * y[:, 0] @ a @ y[:, 0],
    )
    assert set((~found.masks["weight"][0]).nonzero().flatten().tolist()) == set((-expected).argsort()[-3:].tolist())


def explicit(model, x, t, temperature=1.0):
    """g and H of all weights together, flat."""
    shapes = {n: p.shape for n, p in model.named_parameters()}
    sizes = [s.numel() for s in shapes.values()]

    def loss(flat):
        parts = flat.split(sizes)
        held = {n: p.reshape(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        return F.cross_entropy(functional_call(model, held, (x,)) / temperature, t)

    flat = torch.cat([p.detach().flatten() for p in model.parameters()]).requires_grad_()
    return flat.detach(), torch.autograd.grad(loss(flat), flat)[0], hessian(loss)(flat.detach())


def test_an_explicit_hessian():
    torch.manual_seed(0)
    model = torch.nn.Sequential(layer(noise(5, 4)), torch.nn.Tanh(), layer(noise(3, 5, seed=1)))
    x, t = noise(6, 4, seed=2), torch.tensor([0, 1, 2, 0, 1, 2])
    for temperature in (1.0, 200.0):
        criterion = GraSP(temperature=temperature)
        theta, g, h = explicit(model, x, t, temperature)
        evidence = evidence_of(model, x, criterion, [(x, t)], criterion.loss(F.cross_entropy))
        names = [n for n, _ in model.named_parameters()]
        scores = torch.cat([criterion.score(n, evidence).flatten() for n in names])
        torch.testing.assert_close(scores, theta * (h @ g))
        torch.testing.assert_close(scores.sum(), theta @ h @ g)  # s = -scores sum to -theta^T H g
        normalised = torch.cat([s.flatten() for s in criterion.scores(names, evidence).values()])
        torch.testing.assert_close(normalised, scores / scores.abs().sum())


def test_it_is_half_the_first_order_change_of_the_squared_gradient():
    model, step = torch.nn.Sequential(layer(noise(5, 4)), torch.nn.Tanh(), layer(noise(3, 5, seed=1))), 1e-6
    x, t = noise(6, 4, seed=2), torch.tensor([0, 1, 2, 0, 1, 2])
    score = PLAIN.score("0.weight", evidence_of(model, x, PLAIN, [(x, t)]))

    def flow(i, j, factor):
        other = torch.nn.Sequential(layer(noise(5, 4)), torch.nn.Tanh(), layer(noise(3, 5, seed=1)))
        with torch.no_grad():
            other[0].weight[i, j] *= factor
        gradients = torch.autograd.grad(F.cross_entropy(other(x), t), list(other.parameters()))
        return float(sum(g.square().sum() for g in gradients))

    for i, j in ((0, 0), (2, 3), (4, 1)):
        change = (flow(i, j, 1 - step) - flow(i, j, 1 + step)) / (2 * step)
        assert change == pytest.approx(-2 * float(score[i, j]), rel=1e-5, abs=1e-9)


def test_the_temperature_divides_logits():
    y, t = noise(4, 3), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(GraSP().loss(F.cross_entropy)(y, t), F.cross_entropy(y / 200, t))
    with pytest.raises(BadOption, match=r"temperature=200\.0: the model gives a dict"):
        GraSP().loss(F.cross_entropy)({"logits": y}, t)
    for bad in (0, -1, float("nan")):
        with pytest.raises(BadOption, match="temperature="):
            GraSP(temperature=bad)


def test_counts_are_exact_and_global():
    model, x = relu_chain(6, 8, 5, 3), noise(9, 6)
    found = secateur.sparsify(model, x, criterion="grasp", sparsity=0.9, batches=targets(x))
    assert sum(c.zeros for c in found.counts.values()) == int(0.9 * (48 + 40 + 15))
