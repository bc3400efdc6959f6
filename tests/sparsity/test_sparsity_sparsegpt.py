"""SparseGPT by what the paper's algebra says: least squares, explicit inverses, blocks that change nothing."""

import numpy as np
import pytest
import torch
from sparsity_cases import correlated, error, layer, noise, sparsified, targets
from torch import nn

import secateur
from secateur.errors import BadModel, BadOption
from secateur.sparsity.pattern import Pattern
from secateur.sparsity.sparsegpt import SparseGPT
from secateur.sparsity.walk import factor, walk

W, X = noise(6, 12), correlated(60, 12)
GRAM = X.T @ X
H = 2 / 60 * GRAM


def choosing(mask_gone):
    return lambda first, columns, diagonal: mask_gone[:, first : first + columns.shape[1]]


def random_gone(rows=6, inputs=12, seed=3):
    return noise(rows, inputs, seed=seed) > 0.3


def walked(gone, block=12, weight=W, gram=GRAM, damping=0.0, count=60):
    return walk(weight, factor(gram, count, damping), choosing(gone), block, block)


def test_the_diagonal_of_the_factor():
    upper = factor(GRAM, 60, 0.0)
    torch.testing.assert_close(upper.T @ upper, torch.linalg.inv(H))
    for i in range(12):
        torch.testing.assert_close(upper[i, i] ** 2, torch.linalg.inv(H[i:, i:])[0, 0])


def test_damping_is_a_part_of_the_mean_diagonal():
    upper = factor(GRAM, 60, 0.3)
    damped = H + 0.3 * H.diagonal().mean() * torch.eye(12)
    torch.testing.assert_close(torch.linalg.inv(upper.T @ upper), damped)


def test_the_sum_of_errors_is_the_reconstruction_error():
    _, after, errors = walked(random_gone())
    change = after - W
    half_trace = 0.5 * torch.trace(change @ H @ change.T)
    torch.testing.assert_close(errors.square().sum() / 2, half_trace)
    assert float(half_trace) == pytest.approx(error(W, after, X) / 60)


def test_the_first_column_is_optimal_brain_surgeon():
    gone = torch.zeros(6, 12, dtype=torch.bool)
    gone[:, 0] = True
    _, after, errors = walked(gone)
    inverse = torch.linalg.inv(H)
    torch.testing.assert_close(after, W - torch.outer(W[:, 0] / inverse[0, 0], inverse[0]))
    torch.testing.assert_close(errors[:, 0].square() / 2, W[:, 0] ** 2 / (2 * inverse[0, 0]))


@pytest.mark.parametrize("count", [1, 5, 11])
def test_a_prefix_is_the_least_squares_optimum(count):
    gone = torch.zeros(6, 12, dtype=torch.bool)
    gone[:, :count] = True
    _, after, _ = walked(gone)
    fitted = np.linalg.lstsq(X[:, count:].numpy(), (X @ W.T).numpy(), rcond=None)[0].T
    assert np.allclose(after[:, count:].numpy(), fitted)
    assert not after[:, :count].any()


def test_each_column_is_made_up_for_by_those_behind_it():
    """An explicit inverse of what is left of H in place of the factor."""
    gone, expected = random_gone(), W.clone()
    for j in range(12):
        inverse = torch.linalg.inv(H[j:, j:])
        share = torch.where(gone[:, j], expected[:, j] / inverse[0, 0], 0)
        expected[:, j:] -= torch.outer(share, inverse[0])
        expected[gone[:, j], j] = 0
    torch.testing.assert_close(walked(gone)[1], expected)


@pytest.mark.parametrize("block", [1, 2, 5, 7, 128])
def test_blocks_change_nothing(block):
    gone = random_gone()
    torch.testing.assert_close(walked(gone, block)[1], walked(gone)[1])
    x = correlated(60, 16)
    whole, parts = (
        sparsified(noise(6, 16), x, SparseGPT(block=b), pattern=Pattern(keep=2, of=4)) for b in (16, max(block, 4))
    )
    assert torch.equal(whole[0], parts[0])
    torch.testing.assert_close(whole[1], parts[1])


def test_equal_inputs_that_do_not_depend_on_each_other_give_magnitude_and_no_update():
    x = torch.linalg.qr(noise(30, 12))[0] * 2
    mask, after = sparsified(W, x, SparseGPT(), sparsity=0.5)
    plain = secateur.sparsify(layer(W), x[:2], sparsity=0.5)
    assert torch.equal(mask, plain.masks["weight"])
    torch.testing.assert_close(after, plain.model.weight.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 4), (4, 8)])
def test_every_run_has_its_zeros(keep, of):
    x = correlated(60, 16)
    mask, after = sparsified(noise(6, 16), x, "sparsegpt", pattern=Pattern(keep=keep, of=of))
    assert (mask.unflatten(1, (-1, of)).sum(2) == keep).all()
    assert torch.equal(after == 0, ~mask)


@pytest.mark.parametrize("block", [1, 3, 4, 128])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_counts_are_exact_whatever_the_blocks(block, sparsity):
    mask, after = sparsified(W, X, SparseGPT(block=block), sparsity=sparsity)
    assert int((~mask).sum()) == int((after == 0).sum()) == int(sparsity * 72)
    by_row, _ = sparsified(W, X, SparseGPT(block=block), sparsity=sparsity, scope="row")
    assert (~by_row).sum(1).tolist() == [int(sparsity * 12)] * 6


def test_the_mask_of_a_block_is_that_of_the_weights_as_they_are():
    mask, after = sparsified(W, X, SparseGPT(block=6, damping=0.0), sparsity=0.5)
    upper = factor(GRAM, 60, 0.0)
    gone = torch.zeros(6, 12, dtype=torch.bool)
    saliency = (W[:, :6] / upper.diagonal()[:6]).square()
    gone[:, :6] = saliency <= saliency.flatten().kthvalue(18).values
    middle = walked(gone)[1]
    saliency = (middle[:, 6:] / upper.diagonal()[6:]).square()
    gone[:, 6:] = saliency <= saliency.flatten().kthvalue(18).values
    assert torch.equal(~mask, gone)
    torch.testing.assert_close(after, walked(gone)[1])


def test_inputs_that_are_never_there():
    """They go first; what is kept on them is not moved, and moves no other."""
    x = X.clone()
    x[:, [2, 7]] = 0
    mask, after = sparsified(W, x, SparseGPT(), sparsity="1/6")
    assert torch.equal(~mask, torch.zeros(6, 12).bool().index_fill(1, torch.tensor([2, 7]), True))
    torch.testing.assert_close(after, W * mask)
    few, after = sparsified(W, x, SparseGPT(), sparsity="1/12")
    assert int((~few[:, [2, 7]]).sum()) == 6
    assert torch.equal(after[:, [2, 7]], (W * few)[:, [2, 7]])
    _, after = sparsified(W, x, SparseGPT(), sparsity=0.5)
    assert not after[:, [2, 7]].any()
    assert torch.isfinite(after).all()


def test_it_is_better_than_no_update():
    for options in ({"sparsity": 0.5}, {"pattern": Pattern(keep=2, of=4)}):
        mask, after = sparsified(W, X, "sparsegpt", **options)
        wanda = sparsified(W, X, "wanda", **options)[1]
        assert error(W, after, X) < error(W, W * mask, X)
        assert error(W, after, X) < error(W, wanda, X)


def test_groups_of_a_convolution_each_have_their_own_inputs():
    model = nn.Sequential(nn.Conv2d(4, 6, 2, groups=2, bias=False), nn.Flatten(), nn.Linear(6 * 9, 3)).double()
    x = noise(20, 4, 4, 4) * torch.tensor([1.0, 3, 0.5, 2]).double()[:, None, None]
    found = secateur.sparsify(model, x, criterion=SparseGPT(damping=0.0), sparsity=0.5, include="0", batches=targets(x))
    assert found.counts["0.weight"].zeros == 24
    for g in range(2):
        rows = nn.functional.unfold(x[:, 2 * g : 2 * g + 2], 2).movedim(1, 2).flatten(0, 1)
        weight = model[0].weight.detach()[3 * g : 3 * g + 3].flatten(1)
        gone = ~found.masks["0.weight"][3 * g : 3 * g + 3].flatten(1)
        expected = walk(weight, factor(rows.T @ rows, len(rows), 0.0), choosing(gone), 8, 8)[1]
        torch.testing.assert_close(found.model[0].weight.detach()[3 * g : 3 * g + 3].flatten(1), expected)
        assert int(gone.sum()) == 12


def test_half_precision_keeps_exact_zeros():
    weight, x = W.bfloat16(), X.bfloat16()
    model = secateur.sparsify(layer(weight), x[:2], criterion="sparsegpt", sparsity=0.5, batches=targets(x))
    after = model.model.weight
    assert after.dtype == torch.bfloat16
    assert int((after == 0).sum()) == 36


def test_what_was_zero_stays_zero_and_counts():
    first = secateur.sparsify(layer(W), X[:2], sparsity=0.25)
    for options, zeros in (({"sparsity": 0.5}, 36), ({"sparsity": 0.2}, 18), ({"sparsity": 0.5, "scope": "row"}, 36)):
        found = secateur.sparsify(first, X[:2], criterion=SparseGPT(block=5), batches=targets(X), **options)
        assert not found.masks["weight"][~first.masks["weight"]].any()
        assert int((found.model.weight == 0).sum()) >= zeros
        if "scope" not in options:
            assert found.counts["weight"].zeros == zeros
    runs = secateur.sparsify(first, X[:2], criterion="sparsegpt", pattern=Pattern(keep=2, of=4), batches=targets(X))
    assert (runs.masks["weight"].unflatten(1, (-1, 4)).sum(2) <= 2).all()


def test_refusals():
    with pytest.raises(BadOption, match="no ranking of all"):
        sparsified(W, X, "sparsegpt", sparsity=0.5, scope="global")
    for options in ({"damping": -1}, {"block": 0}, {"damping": float("nan")}):
        with pytest.raises(BadOption, match="damping="):
            SparseGPT(**options)
    with pytest.raises(BadModel, match=r"12 inputs reads is linearly dependent.*damping=0\.0.*more batches"):
        sparsified(W, X[:5], SparseGPT(damping=0.0), sparsity=0.5)
