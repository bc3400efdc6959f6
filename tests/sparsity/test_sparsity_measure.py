"""What is measured is measured; what is counted in bytes agrees with scipy."""

import pytest
import torch
from scipy.sparse import csr_matrix
from sparsity_cases import noise

from secateur.errors import BadOption
from secateur.sparsity.measure import compressed_bytes, measure, measured


def test_a_layer_of_a_given_shape():
    found = measure(64, 48, "0.9", batch=4, repeats=3)
    assert (found.rows, found.inputs, found.batch) == (64, 48, 4)
    assert found.zeros == int(64 * 48 * 0.9)
    assert min(found.dense_ms, found.scipy_ms, found.torch_ms) > 0
    assert found.threads == torch.get_num_threads()
    assert "dense" in str(found)
    assert f"{64 * 48 * 4} bytes dense" in str(found)


def test_all_ways_give_the_same_product(monkeypatch):
    import secateur.sparsity.measure as module

    given = []

    def keep(ways, repeats):
        given.extend(ways)
        return [3.0, 2.0, 1.5]

    monkeypatch.setattr(module, "_interleaved", keep)
    weight = noise(8, 6).masked_fill(noise(8, 6, seed=1) > 0, 0)
    found = measured(weight, batch=5)
    assert "2.00 times as fast" in str(found)
    dense, scipys, torchs = (torch.as_tensor(way()) for way in given)
    torch.testing.assert_close(scipys, dense)
    torch.testing.assert_close(torchs, dense)


def test_samples_are_interleaved_and_the_median_counts(monkeypatch):
    import secateur.sparsity.measure as module

    order = []

    def seconds(way, count):
        way()
        times = {"a": [1.0, 1.0, 9.0, 2.0], "b": [5.0, 5.0, 5.0, 6.0]}[order[-1]]
        return times[order.count(order[-1]) // 1 - 2] * count

    monkeypatch.setattr(module, "_seconds", seconds)
    found = module._interleaved([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert order == ["a", "a", "b", "b", "a", "b", "a", "b", "a", "b"]
    assert found == [2000.0, 5000.0]


def test_bytes_of_compressed_rows():
    weight = noise(9, 7).float().masked_fill(noise(9, 7, seed=1) > 0, 0)
    rows = csr_matrix(weight.numpy())
    assert compressed_bytes(weight != 0, 4) == rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        ((0, 4, 0.5), {}, "rows=0"),
        ((4, 4, 2), {}, "sparsity=2"),
        ((4, 4, 0.5), {"batch": 0}, "batch=0"),
        ((4, 4, 0.5), {"repeats": 0}, "repeats=0"),
    ],
)
def test_refusals(arguments, options, reason):
    with pytest.raises(BadOption, match=reason):
        measure(*arguments, **options)
