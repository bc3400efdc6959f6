"""Measuring once, keeping it, and reading it again."""

import json

import pytest
import torch
from torch import nn

import secateur
from secateur.cost.cost import CostModel
from secateur.errors import BadModel, CheckpointError, UnknownName
from secateur.latency import asked, measure
from secateur.latency.measure import measure_latency


@pytest.fixture(scope="module")
def net():
    return secateur.trace(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 5)), torch.zeros(3, 6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, net):
    made = tmp_path_factory.mktemp("cache")
    measure_latency(net, cache=made, samples=5)
    return made


def test_a_forward_takes_time(net, folder):
    latency = measure_latency(net, cache=folder, samples=5)
    cost = CostModel(net, latency)
    assert 0 < cost.dense().latency_ms < 1000
    assert latency.error >= 0
    assert latency.about["dtype"] == "float32"
    assert "torch" in latency.about["engine"]


def test_what_is_kept_is_not_measured_again(net, folder, monkeypatch):
    first = measure_latency(net, cache=folder, samples=5)

    def never(*_, **__):
        raise AssertionError("measured again")

    for name in ("whole_models", "staircases"):
        monkeypatch.setattr(measure, name, never)
    monkeypatch.setattr(measure, "times_of", lambda *_: never)
    second = measure_latency(net, cache=folder, samples=5)
    assert second.fit == first.fit
    assert second.error == first.error
    assert second.phases == first.phases
    assert {k: v.tolist() for k, v in second.tables.items()} == {k: v.tolist() for k, v in first.tables.items()}
    with pytest.raises(AssertionError, match="measured again"):
        measure_latency(net, cache=folder, samples=5, again=True)
    with pytest.raises(AssertionError, match="measured again"):
        measure_latency(net, cache=folder, samples=6)


def test_threads_and_batches_are_kept_apart(net, folder):
    other = secateur.trace(net.model, torch.zeros(4, 6))
    assert not {t.key for t in CostModel(other).timed(other)} & {t.key for t in CostModel(net).timed(net)}
    measure_latency(net, cache=folder, samples=5, threads=2)
    assert len(list(folder.glob("*.json"))) == 2


def test_the_model_is_left_alone(net, tmp_path):
    net.model.train()
    before, state = {n: p.clone() for n, p in net.model.named_parameters()}, torch.random.get_rng_state()
    measure_latency(net, cache=tmp_path, samples=5)
    assert net.model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[n], p) for n, p in net.model.named_parameters())


def test_a_damaged_file_is_said(net, tmp_path):
    measure_latency(net, cache=tmp_path, samples=5)
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text()[:100])
    with pytest.raises(CheckpointError, match="delete it"):
        measure_latency(net, cache=tmp_path, samples=5)


def test_a_file_of_another_format_is_measured_anew(net, tmp_path):
    measure_latency(net, cache=tmp_path, samples=5)
    (file,) = tmp_path.glob("*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 0}))
    assert measure_latency(net, cache=tmp_path, samples=5).error >= 0


def test_where_it_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "told"))
    assert measure.folder(None) == tmp_path / "told"
    assert measure.folder("here").name == "here"
    monkeypatch.delenv("SECATEUR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert measure.folder(None) == tmp_path / "secateur" / "latency"


def test_models_that_cannot_be_measured(net):
    with pytest.raises(UnknownName, match="'tpu'"):
        measure_latency(net, "tpu")
    half = secateur.trace(nn.Sequential(nn.Linear(6, 32), nn.Linear(32, 5)).half(), torch.zeros(3, 6).half())
    with pytest.raises(BadModel, match="float16"):
        measure_latency(half)


def test_a_budget_alone_is_enough(net, folder, monkeypatch):
    """Latency is measured because the budget names it, here read from where it was kept."""
    wanted = []

    def kept(graph, engine, *, threads):
        wanted.append((engine, threads))
        return measure_latency(graph, "eager", cache=folder, samples=5)

    monkeypatch.setattr(asked, "measure_latency", kept)
    budget = secateur.Budget(latency_ms=0.9999, engine="onnxruntime", threads=2)
    pruned = secateur.prune(net.model, net.example, budget=budget)
    assert wanted
    assert set(wanted) == {("onnxruntime", 2)}
    assert pruned.after.latency_ms <= 0.9999 * pruned.before.latency_ms
    secateur.prune(net.model, net.example, budget=secateur.Budget(macs=0.5))
    assert len(set(wanted)) == 1
    quick = secateur.prune(
        net.model,
        net.example,
        budget=secateur.Budget(macs=0.5),
        allocator=secateur.allocators()["uniform"](round_to="auto"),
    )
    assert wanted[-1] == ("eager", 1)
    assert quick.after.macs <= 0.5 * quick.before.macs
