"""Optimal brain surgeon against least squares on the remaining inputs, and against brute force."""

import numpy as np
import pytest
import torch
from sparsity_cases import correlated, error, evidence_of, layer, noise, sparsified, targets

import secateur
from secateur.errors import BadModel, BadOption
from secateur.sparsity.obs import OBS
from secateur.sparsity.pattern import Pattern
from secateur.sparsity.surgeon import Inverse, refit

W, X = noise(4, 8), correlated(40, 8)
H = X.T @ X / 40
EXACT, ONCE = OBS(damping=0.0), OBS(damping=0.0, exact=False)


def fitted(row, kept):
    """Least squares for one output on its remaining inputs, by numpy."""
    made = np.zeros(len(row))
    made[kept] = np.linalg.lstsq(X[:, kept].numpy(), (X @ row).numpy(), rcond=None)[0]
    return torch.from_numpy(made)


def test_one_weight_out_is_the_fit_on_the_others_and_costs_what_it_says():
    scores = OBS(damping=0.0).score("weight", evidence_of(layer(W), X, EXACT))
    for i in range(4):
        for q in range(8):
            kept = [j for j in range(8) if j != q]
            gone = torch.zeros(1, 8, dtype=torch.bool)
            gone[0, q] = True
            after = refit(W[i : i + 1], Inverse.of(X.T @ X, 40, 0.0), gone)[0]
            torch.testing.assert_close(after, fitted(W[i], kept))
            assert float(scores[i, q]) == pytest.approx(error(W[i : i + 1], after[None], X) / 80, rel=1e-9)


def test_a_group_of_one_is_the_scalar_formula():
    m = torch.linalg.inv(H)
    gone = torch.zeros(4, 8, dtype=torch.bool)
    gone[:, 3] = True
    after = refit(W, Inverse.of(X.T @ X, 40, 0.0), gone)
    torch.testing.assert_close(after, W - torch.outer(W[:, 3] / m[3, 3], m[3]))


def test_the_cost_of_a_group():
    m, out = torch.linalg.inv(H), torch.tensor([1, 4, 6])
    gone = torch.zeros(4, 8, dtype=torch.bool)
    gone[:, out] = True
    after = refit(W, Inverse.of(X.T @ X, 40, 0.0), gone)
    w = W[:, out]
    cost = 0.5 * (w * torch.linalg.solve(m[out][:, out], w.T).T).sum()
    assert float(cost) == pytest.approx(error(W, after, X) / 80)


def greedy(rows, count):
    """Which weight of any of these rows is cheapest to take out, with all refitted, again and again."""
    kept = {i: list(range(8)) for i in rows}
    for _ in range(count):
        costs = {}
        for i in rows:
            before = error(W[i : i + 1], fitted(W[i], kept[i])[None], X)
            for q in kept[i]:
                left = [j for j in kept[i] if j != q]
                costs[i, q] = error(W[i : i + 1], fitted(W[i], left)[None], X) - before
        i, q = min(costs, key=costs.get)
        kept[i].remove(q)
    return kept


def test_exact_is_greedy_with_a_refit_after_each():
    mask, after = sparsified(W, X, EXACT, sparsity=0.5, scope="row")
    for i in range(4):
        kept = greedy([i], 4)[i]
        assert mask[i].nonzero().flatten().tolist() == kept
        torch.testing.assert_close(after[i], fitted(W[i], kept))


def test_exact_over_a_layer_takes_the_cheapest_of_all_rows():
    mask, after = sparsified(W, X, EXACT, sparsity="3/8")
    kept = greedy(range(4), 12)
    assert int((~mask).sum()) == 12
    assert {i: mask[i].nonzero().flatten().tolist() for i in range(4)} == kept
    torch.testing.assert_close(after, torch.stack([fitted(W[i], kept[i]) for i in range(4)]))


def test_a_diagonal_hessian_is_optimal_brain_damage():
    x = torch.linalg.qr(noise(40, 8))[0] * torch.linspace(0.5, 4, 8).double()
    h = (x.T @ x).diagonal() / 40
    torch.testing.assert_close(EXACT.score("weight", evidence_of(layer(W), x, EXACT)), 0.5 * h * W**2)
    for criterion in (EXACT, ONCE):
        mask, after = sparsified(W, x, criterion, sparsity=0.5)
        order = (h * W**2).flatten().argsort()
        assert torch.equal(~mask, torch.zeros(32).bool().index_fill(0, order[:16], True).reshape(4, 8))
        torch.testing.assert_close(after, W * mask)


def test_ranked_once_keeps_the_first_inverse():
    mask, after = sparsified(W, X, ONCE, sparsity=0.5)
    m = torch.linalg.inv(H)
    scores = W**2 / (2 * m.diagonal())
    assert torch.equal(~mask, scores <= scores.flatten().kthvalue(16).values)
    for i in range(4):
        row = W[i].clone()
        for q in sorted((~mask[i]).nonzero().flatten().tolist(), key=lambda q: scores[i, q]):
            row -= row[q] / m[q, q] * m[q]
        torch.testing.assert_close(after[i], row * mask[i])


def test_the_first_of_a_row_is_exact_either_way():
    once, exact = (sparsified(W, X, c, sparsity="1/8", scope="row") for c in (ONCE, EXACT))
    assert torch.equal(once[0], exact[0])
    torch.testing.assert_close(once[1], exact[1])


def test_exact_is_at_least_as_good():
    for options in ({"sparsity": 0.5}, {"sparsity": 0.5, "scope": "row"}, {"pattern": Pattern(keep=2, of=4)}):
        errors = [error(W, sparsified(W, X, c, **options)[1], X) for c in (EXACT, ONCE, "wanda")]
        assert errors[0] <= errors[1] + 1e-12
        assert errors[0] < errors[2]


@pytest.mark.parametrize("criterion", [EXACT, ONCE, OBS()])
@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 4), (3, 8)])
def test_every_run_has_its_zeros(criterion, keep, of):
    mask, after = sparsified(W, X, criterion, pattern=Pattern(keep=keep, of=of))
    assert (mask.unflatten(1, (-1, of)).sum(2) == keep).all()
    assert torch.equal(after == 0, ~mask)


@pytest.mark.parametrize("criterion", [OBS(), OBS(exact=False)])
def test_inputs_that_are_never_there(criterion):
    x = X.clone()
    x[:, [2, 5]] = 0
    mask, after = sparsified(W, x, criterion, sparsity=0.25)
    assert torch.equal(~mask, torch.zeros(4, 8).bool().index_fill(1, torch.tensor([2, 5]), True))
    torch.testing.assert_close(after, W * mask)
    _, after = sparsified(W, x, criterion, sparsity="1/8")
    assert torch.isfinite(after).all()


def test_what_was_zero_stays_zero_and_counts():
    first = secateur.sparsify(layer(W), X[:2], sparsity=0.25)
    for criterion in (OBS(), OBS(exact=False)):
        found = secateur.sparsify(first, X[:2], criterion=criterion, sparsity=0.5, batches=targets(X))
        assert not found.masks["weight"][~first.masks["weight"]].any()
        assert found.counts["weight"].zeros == 16
        kept = found.masks["weight"]
        if criterion.exact:
            for i in range(4):
                dense = first.model.weight.detach()[i]
                fit = fitted(dense, kept[i].nonzero().flatten().tolist())
                torch.testing.assert_close(found.model.weight.detach()[i], fit, rtol=1e-3, atol=1e-4)


def test_refusals():
    with pytest.raises(BadOption, match="damping="):
        OBS(damping=-1.0)
    with pytest.raises(BadModel, match="linearly dependent"):
        sparsified(W, X[:4], EXACT, sparsity=0.5)
    with pytest.raises(BadOption, match="no ranking of all"):
        sparsified(W, X, EXACT, sparsity=0.5, scope="global")
