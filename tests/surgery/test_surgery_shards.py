"""Large models in several files: equal after loading, old shards gone, and a killed write leaves the old one whole."""

import json

import pytest
import torch

import secateur
from held import random_plan, same_weights
from nets import fresh, graph
from secateur import files
from secateur.errors import CheckpointError

SIZE = 100  # bytes


def pruned(name="tied", seed=0):
    g = graph(name)
    return secateur.cut(g, random_plan(g, seed, keep=0.5))


@pytest.mark.parametrize("name", ["tied", "plain", "padded"])
def test_shards_give_the_same_model(tmp_path, name):
    cut = pruned(name)
    secateur.save(cut, tmp_path / "m.safetensors", max_shard_bytes=SIZE)
    found = sorted(p.name for p in tmp_path.iterdir())
    shards = [n for n in found if "-of-" in n]
    assert len(shards) > 1
    assert {"m.safetensors", "m.safetensors.index.json"} <= set(found)
    assert same_weights(secateur.load(tmp_path / "m.safetensors", into=fresh(name)), cut.model)
    index = json.loads((tmp_path / "m.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(cut.model.state_dict())
    assert set(index.values()) == set(shards)


def test_each_shard_keeps_to_its_size(tmp_path):
    secateur.save(pruned("plain"), tmp_path / "m.safetensors", max_shard_bytes=SIZE)
    for path in tmp_path.glob("*-of-*"):
        tensors = files.read(path, "shard of a pruned model")[0]
        assert len(tensors) == 1 or sum(t.numel() * t.element_size() for t in tensors.values()) <= SIZE


def test_a_second_write_takes_the_old_shards_away(tmp_path):
    path = tmp_path / "m.safetensors"
    secateur.save(pruned(seed=0), path, max_shard_bytes=SIZE)
    old = {p.name for p in tmp_path.glob("*-of-*")}
    again = pruned(seed=1)
    secateur.save(again, path, max_shard_bytes=SIZE)
    assert not old & {p.name for p in tmp_path.glob("*-of-*")}
    assert same_weights(secateur.load(path, into=fresh("tied")), again.model)
    secateur.save(again, path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_write_that_fails_leaves_the_old_one_whole(tmp_path, monkeypatch):
    path, first = tmp_path / "m.safetensors", pruned(seed=0)
    secateur.save(first, path, max_shard_bytes=SIZE)
    whole = files.write

    def full(target, kind, tensors, facts):
        if "-00002-" in target.name:
            raise CheckpointError("no space left")
        whole(target, kind, tensors, facts)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(CheckpointError, match="no space left"):
        secateur.save(pruned(seed=1), path, max_shard_bytes=SIZE)
    monkeypatch.undo()
    assert same_weights(secateur.load(path, into=fresh("tied")), first.model)


def test_a_missing_or_damaged_shard_is_named(tmp_path):
    secateur.save(pruned(), tmp_path / "m.safetensors", max_shard_bytes=SIZE)
    shard = sorted(tmp_path.glob("*-of-*"))[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CheckpointError, match=shard.name):
        secateur.load(tmp_path / "m.safetensors", into=fresh("tied"))
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        secateur.load(tmp_path / "m.safetensors", into=fresh("tied"))


def test_no_room_at_all_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="max_shard_bytes=0"):
        secateur.save(pruned(), tmp_path / "m.safetensors", max_shard_bytes=0)
    assert not list(tmp_path.iterdir())


def test_ties_survive(tmp_path):
    secateur.save(pruned("tied"), tmp_path / "m.safetensors", max_shard_bytes=SIZE)
    model = secateur.load(tmp_path / "m.safetensors", into=fresh("tied"))
    assert model.b.weight is model.c.weight
    assert torch.equal(model.b.weight, pruned("tied").model.b.weight)
