"""The oracle against brute force, linear losses, cut models and kills."""

import copy
import os
import random
import signal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, run, zeroed
from held import batches as any_batches
from held import loss as any_loss
from nets import fill, graph, images
from secateur import ledger as ledgers
from secateur.errors import BadModel, BadOption, CheckpointError, NeedsData, PlanError
from secateur.experiments import oracle as oracles
from secateur.experiments.oracle import Oracle, oracle, sample
from secateur.graph.example import map_tensors


class Gates(nn.Module):
    """Three gates between two linear layers; `z` is what brute force sets to zero."""

    def __init__(self, activation=F.relu):
        super().__init__()
        self.a, self.b, self.activation = nn.Linear(4, 3), nn.Linear(3, 2), activation
        self.z = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.b(self.activation(self.a(x)) * self.z)


def gates(**options):
    net = fill(Gates(**options)).double()
    net.z.data.fill_(1)
    return net


def data(count=3, size=4):
    x, y = images(count * size, 4).double(), torch.arange(count * size) % 2
    return [(x[i : i + size], y[i : i + size]) for i in range(0, count * size, size)]


def test_three_gates_by_brute_force():
    net = gates()
    found = oracle(secateur.trace(net, data()[0][0]), data())
    x, y = (torch.cat(t) for t in zip(*data(), strict=True))
    with torch.no_grad():
        whole = F.cross_entropy(net(x), y)
        expected = []
        for k in range(3):
            net.z.data = torch.ones(3).double().index_fill(0, torch.tensor(k), 0)
            expected.append(F.cross_entropy(net(x), y) - whole)
    assert found.units == (("a", 0), ("a", 1), ("a", 2))
    assert found.dense_loss == pytest.approx(float(whole), abs=1e-14)
    torch.testing.assert_close(found.change, torch.stack(expected), rtol=0, atol=1e-14)
    assert torch.equal(found.squared, found.change**2)
    assert torch.equal(found.absolute, found.change.abs())
    assert found.absolute.min() > 1e-4


def test_batches_count_by_their_examples():
    net, (x, y) = gates(), next(iter(data(1, 12)))
    uneven = [(x[:1], y[:1]), (x[1:5], y[1:5]), (x[5:], y[5:])]
    g = secateur.trace(net, x)
    torch.testing.assert_close(oracle(g, uneven).change, oracle(g, [(x, y)]).change, rtol=0, atol=1e-14)
    assert oracle(g, uneven).losses.shape == (3, 3)


def test_a_linear_loss_changes_by_the_gradient_of_the_gate():
    """|dL| = |dL/dz| exactly, and so the square root of the Taylor score."""
    net, x, weights = gates(activation=lambda x: x), images(6, 4).double(), torch.tensor([1.0, -2.0]).double()

    def loss(output, _):
        return (output * weights).sum(1).mean()

    (gradient,) = torch.autograd.grad(loss(net(x), None), net.z)
    g = secateur.trace(net, x)
    found = oracle(g, [(x, None)], loss)
    torch.testing.assert_close(found.change, -gradient, rtol=1e-12, atol=1e-15)
    taylor = secateur.score(g, "taylor", batches=[(x, None)], loss=loss)
    torch.testing.assert_close(found.squared, found.of(taylor), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["plain", "padded", "concat", "grouped", "flat", "squeeze", "tied", "named"])
def test_it_is_the_loss_of_the_model_whose_readers_are_zeroed(name):
    g, size = graph(name), 3
    traced = secateur.trace(copy.deepcopy(g.model).double(), held_double(g.example))
    batches = [(held_double(x), y) for x, y in any_batches(g.example)]
    found = oracle(traced, batches, any_loss, units=size)
    for (group, unit), change in zip(found.units, found.change.tolist(), strict=True):
        gone = secateur.Plan.keeping(traced, {group: [u for u in range(traced[group].size) if u != unit]})
        mean = sum(float(any_loss(run(zeroed(traced, gone), x), y)) for x, y in batches) / len(batches)
        assert change == pytest.approx(mean - found.dense_loss, abs=1e-12)


def held_double(example):
    return map_tensors(example, lambda t: t.double() if t.is_floating_point() else t)


@pytest.mark.parametrize("name", ["plain", "padded", "depthwise", "grouped", "flat", "concat"])
def test_a_unit_that_nothing_hears_changes_nothing(name):
    """Outgoing weights of zero: a change of exactly 0, in float32."""
    g = graph(name)
    model = copy.deepcopy(g.model)
    group = max(g.groups, key=lambda x: len(x.members))
    for member in group.members:
        if member.role == "in":
            model.get_parameter(member.tensor).data.index_fill_(member.axis, torch.from_numpy(member.index[1]), 0.0)
    deaf = secateur.trace(model, g.example)
    found = oracle(deaf, any_batches(g.example), any_loss)
    changes = dict(zip(found.units, found.change.tolist(), strict=True))
    assert changes[group.name, 1] == 0
    assert max(abs(c) for (g, _), c in changes.items() if g == group.name) > 1e-6


def test_a_sample_gives_each_group_its_share_and_grows():
    g = graph("digits-resnet")
    total = sum(x.size for x in g.groups)
    everything = tuple((x.name, u) for x in g.groups for u in range(x.size))
    assert sample(g) == sample(g, total) == sample(g, total + 5, seed=3) == everything
    assert sample(g, total, stratified=False) == everything
    for count in (1, 7, 40, 100):
        drawn = sample(g, count, seed=1)
        assert len(set(drawn)) == count
        assert set(drawn) <= set(sample(g, count + 20, seed=1))
        assert set(sample(g, count, stratified=False)) <= set(sample(g, count + 20, stratified=False))
        assert sorted(drawn, key=everything.index) == list(drawn)
        for x in g.groups:
            assert abs(sum(name == x.name for name, _ in drawn) - count * x.size / total) <= 1
    assert sample(g, 30, seed=1) == sample(g, 30, seed=1) != sample(g, 30, seed=2)


def test_a_uniform_draw_takes_all_units_alike():
    g = graph("plain")  # 8 and 6 units
    drawn = [u for seed in range(600) for u in sample(g, 3, seed=seed, stratified=False)]
    each = [drawn.count(u) for u in sample(g)]
    assert len(each) == 14
    assert sum((n - 1800 / 14) ** 2 / (1800 / 14) for n in each) < 34.5  # chi squared, 13 degrees: 1 in 1000


def test_the_sample_of_all_is_the_whole_and_a_part_is_a_part():
    g = graph("plain")
    whole, same, part = (oracle(g, any_batches(g.example), any_loss, units=n) for n in (None, 14, 5))
    assert torch.equal(whole.change, same.change)
    held = dict(zip(whole.units, whole.change.tolist(), strict=True))
    assert [held[u] for u in part.units] == part.change.tolist()


def test_a_group_whose_only_unit_must_stay_is_left_out():
    model = nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    g = secateur.trace(model, torch.zeros(1, 4))
    assert [name for name, _ in sample(g)] == ["2"] * 3
    with pytest.raises(BadModel, match="no group has a unit that may go"):
        sample(secateur.trace(model[:3], torch.zeros(1, 4)))


def test_a_residual_block_is_left_out_whole():
    """The block's branch silenced by hand: the scale and shift of its last norm are zero."""
    model = copy.deepcopy(graph("resnet20").model).double()
    x, y = images(2, 3, 32, 32).double(), torch.arange(2)
    g = secateur.trace(model, x, kinds=("depth",))
    found = oracle(g, [(x, y)])
    assert len(found.units) == len(g.groups) > 5
    for (name, _), change in zip(found.units, found.change.tolist(), strict=True):
        silent = copy.deepcopy(model).eval()
        norm = silent.get_submodule(name).bn2
        with torch.no_grad():
            norm.weight.zero_()
            norm.bias.zero_()
            assert change == pytest.approx(float(F.cross_entropy(silent(x), y)) - found.dense_loss, abs=1e-12)


def test_nothing_is_touched(tmp_path):
    net = gates().train()
    with assert_unchanged(net):
        oracle(secateur.trace(net, data()[0][0]), data(), path=tmp_path / "o.safetensors")


def counting(monkeypatch):
    calls = []

    def counted(graph, held, kept, measures, real=oracles.measured):
        calls.append(kept)
        return real(graph, held, kept, measures)

    monkeypatch.setattr(oracles, "measured", counted)
    return calls


def test_what_is_measured_is_not_measured_again(tmp_path, monkeypatch):
    g, path, calls = graph("plain"), tmp_path / "o.safetensors", counting(monkeypatch)
    told = []
    options = {"path": path, "progress": lambda done, total: told.append((done, total))}
    first = oracle(g, any_batches(g.example), any_loss, units=6, **options)
    assert len(calls) == 7
    assert told == [(i, 6) for i in range(7)]
    whole = oracle(g, any_batches(g.example), any_loss, **options)
    assert len(calls) == 15
    assert told[7] == (6, 14)
    again = oracle(g, any_batches(g.example), any_loss, units=6, **options)
    assert len(calls) == 15
    assert torch.equal(again.losses, first.losses)
    assert again.units == first.units
    assert torch.equal(whole.losses, oracle(g, any_batches(g.example), any_loss).losses)


def test_an_error_loses_nothing(tmp_path, monkeypatch):
    g, path, calls = graph("plain"), tmp_path / "o.safetensors", counting(monkeypatch)

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        oracle(g, any_batches(g.example), any_loss, path=path, progress=stop)
    assert len(calls) == 6
    oracle(g, any_batches(g.example), any_loss, path=path)
    assert len(calls) == 15


def killed_after(units, g, batches, path):
    """A process at work, killed -9 once it has come so many units on: (units at its start, whether it was done)."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        oracle(g, batches, any_loss, path=path, progress=lambda done, _: os.write(theirs, bytes([done])))
        os._exit(0)
    os.close(theirs)
    start = os.read(ours, 1)[0]
    seen = start
    while seen < start + units and (word := os.read(ours, 1)):
        seen = word[0]
    if seen >= start + units:
        os.kill(child, signal.SIGKILL)
    os.close(ours)
    return start, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_killed_again_and_again_it_ends_as_if_never_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "EVERY", 0.0)
    path, g, generator, starts, ended = tmp_path / "o.safetensors", graph("plain"), random.Random(0), [], False
    batches = [(x.repeat(500, 1, 1, 1), y) for x, y in any_batches(g.example)]
    while not ended:
        start, ended = killed_after(generator.randint(1, 4), g, batches, path)
        starts.append(start)
    assert len(starts) > 4
    assert sorted(set(starts)) == starts, "each begins with more than the one before"
    again = oracle(g, batches, any_loss, path=path, progress=lambda done, total: starts.append(done))
    assert starts[-1] == 14
    assert torch.equal(again.losses, oracle(g, batches, any_loss).losses)
    assert [p.name for p in tmp_path.iterdir()] == ["o.safetensors"]


def test_a_file_of_something_else_is_refused_by_name(tmp_path):
    net, path = gates(), tmp_path / "o.safetensors"
    g = secateur.trace(net, data()[0][0])
    oracle(g, data(), path=path)
    before = path.read_bytes()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.a.weight.add_(1e-9)
    for graph_, batches, loss, word in (
        (secateur.trace(other, data()[0][0]), data(), None, "weights"),
        (g, data(4), None, "batches"),
        (g, data(), any_loss, "loss"),
        (secateur.trace(net, data()[0][0], frozen=["b"]), data(4), None, "batches"),
    ):
        with pytest.raises(CheckpointError, match=rf"o\.safetensors was measured on other {word} than these"):
            oracle(graph_, batches, loss, path=path)
    assert path.read_bytes() == before
    (tmp_path / "text").write_text("not ours")
    with pytest.raises(CheckpointError, match="text"):
        oracle(g, data(), path=tmp_path / "text")
    with pytest.raises(CheckpointError, match="cannot write"):
        oracle(g, data(), path=tmp_path / "text" / "o.safetensors")


def test_what_cannot_be_measured_is_refused():
    net = gates()
    g = secateur.trace(net, data()[0][0])
    with pytest.raises(NeedsData, match="batches are empty"):
        oracle(g, [])
    with pytest.raises(BadOption, match="sample of 0 units"):
        oracle(g, data(), units=0)
    with pytest.raises(NeedsData, match="batch 1 gives a loss of nan"):
        oracle(g, [data()[0], (data()[1][0] * float("nan"), data()[1][1])])
    with pytest.raises(BadOption, match=r"\(4,\) numbers a batch"):
        oracle(g, data(), lambda output, y: output.sum(1))
    whole = float(oracle(g, data()).dense[0])

    def fails_when_masked(output, y):
        return F.cross_entropy(output, y) / float(abs(F.cross_entropy(output, y) - whole) < 1e-12)

    with pytest.raises(BadModel, match=r"without unit 0 of group 'a', batch 0 gives a loss of inf.*frozen='a'"):
        oracle(g, data()[:1], fails_when_masked)
    with pytest.raises(PlanError, match="no scores of group 'a'"):
        oracle(g, data()).of({})


def test_writes_are_few(tmp_path, monkeypatch):
    writes = []
    monkeypatch.setattr(ledgers.files, "write", lambda *_: writes.append(1))
    oracle(graph("plain"), any_batches(graph("plain").example), any_loss, path=tmp_path / "o.safetensors")
    assert 2 <= len(writes) <= 4


def test_an_oracle_by_hand():
    made = Oracle((("a", 0), ("a", 2)), torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.tensor([1.0, 1.0]), torch.ones(2))
    assert made.change.tolist() == [1.0, 0.0]
    assert made.dense_loss == 1.0
    assert made.of({"a": torch.tensor([5.0, 6.0, 7.0])}).tolist() == [5.0, 7.0]
