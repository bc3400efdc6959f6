"""The result: what it says of itself, stored and read, laid on another model."""

import pytest
import torch

import secateur
from held import assert_unchanged, same_weights
from nets import ALL, fresh
from secateur import Sparse
from secateur.errors import BadModel, CheckpointError, WrongArchitecture

PLAIN = ALL["plain"].example


def sparse(name="plain", **options):
    return secateur.sparsify(fresh(name), ALL[name].example, **({"sparsity": 0.5} | options))


def same(a, b):
    return a.masks.keys() == b.masks.keys() and all(torch.equal(a.masks[n], b.masks[n]) for n in a.masks)


def test_it_says_that_zeros_alone_buy_nothing():
    found = sparse()
    dense, compressed = found.bytes
    assert dense == 564 * 4
    assert compressed == 282 * 8 + (9 + 7 + 11) * 4
    text = str(found)
    assert "282 of 564 weights zero (0.5) in 3 layers, by magnitude: 0.5 of each layer zero" in text
    assert "one.0.weight: 36 of 72 zero" in text
    assert "Zeros alone make nothing faster or smaller here" in text
    assert f"{dense} bytes as before" in text
    assert f"would take {compressed}" in text
    assert " ms" not in text  # times are told when asked for


def test_it_is_measured_when_asked():
    found = sparse()
    times = found.measure(batch=4, repeats=1)
    assert {n: (t.rows, t.inputs) for n, t in times.rows.items()} == {
        "one.0.weight": (8, 9),
        "two.0.weight": (6, 72),
        "head.linear.weight": (10, 6),
    }
    assert all(t.zeros == found.counts[n].zeros for n, t in times.rows.items())
    assert str(times).count(" ms (scipy)") == 3


@pytest.mark.parametrize("name", ["plain", "tied", "transposed", "depthwise", "flat"])
def test_stored_and_read(name, tmp_path):
    found = sparse(name, scope="row")
    secateur.save(found, tmp_path / "s.safetensors")
    into = fresh(name, seed=4)
    with assert_unchanged(into):
        model = secateur.load(tmp_path / "s.safetensors", into=into)
        again = Sparse.load(tmp_path / "s.safetensors", into=into)
    assert same_weights(model, found.model)
    assert same_weights(again.model, found.model)
    assert same(again, found)
    assert (again.how, again.layouts, again.left, again.origin) == (found.how, found.layouts, found.left, found.origin)
    assert str(again) == str(found)


def test_masks_are_stored_where_a_kept_weight_is_zero(tmp_path):
    """Zeros of the weights would not tell."""
    found = sparse()
    with torch.no_grad():
        for n in found.masks:
            found.model.get_parameter(n).zero_()
    secateur.save(found, tmp_path / "s.safetensors")
    assert same(Sparse.load(tmp_path / "s.safetensors", into=fresh("plain")), found)


def test_pruned_then_made_sparse_is_replayed(tmp_path):
    small = secateur.prune(fresh("plain"), PLAIN, budget=secateur.Budget(macs=0.5))
    found = secateur.sparsify(small, PLAIN, sparsity=0.5)
    secateur.save(found, tmp_path / "s.safetensors")
    again = Sparse.load(tmp_path / "s.safetensors", into=fresh("plain", seed=3))
    assert same_weights(again.model, found.model)
    assert same(again, found)
    assert again.origin.plans == (small.plan,)
    further = secateur.sparsify(again, PLAIN, sparsity=0.8)
    assert further.sparsity == pytest.approx(0.8, abs=0.01)


def test_several_files(tmp_path):
    found = sparse("flat")
    secateur.save(found, tmp_path / "s.safetensors", max_shard_bytes=2000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = Sparse.load(tmp_path / "s.safetensors", into=fresh("flat", seed=2))
    assert same(again, found)
    assert same_weights(again.model, found.model)


def test_the_wrong_file_or_model(tmp_path):
    pruned = secateur.prune(fresh("plain"), PLAIN, budget=secateur.Budget(macs=0.5))
    secateur.save(pruned, tmp_path / "p.safetensors")
    with pytest.raises(CheckpointError, match="holds no masks"):
        Sparse.load(tmp_path / "p.safetensors", into=fresh("plain"))
    secateur.save(sparse(), tmp_path / "s.safetensors")
    with pytest.raises(WrongArchitecture, match="another model"):
        Sparse.load(tmp_path / "s.safetensors", into=fresh("grouped"))
    with pytest.raises(BadModel, match="the masks are of another model"):
        sparse().on(fresh("grouped"))


def test_many_layers_are_not_all_printed():
    found = sparse("resnet20")
    assert len(found.masks) > 12
    assert f"and {len(found.masks) - 12} more" in str(found)
