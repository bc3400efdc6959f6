"""Evidence against the same quantities computed from stored tensors, explicit gates and brute force."""

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged
from nets import fill, graph, images
from secateur.errors import BadModel, CheckpointError, NeedsData, UnknownName
from secateur.evidence.base import COLLECTORS, Evidence, Sampling
from secateur.evidence.collect import collect
from secateur.evidence.inputs_gram import inputs_of

ALL = Sampling(points=10**6)


class Net(nn.Module):
    """A residual net whose stem is read by two layers, one of them twice removed; a flattened head."""

    def __init__(self):
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.left, self.right = nn.Conv2d(5, 6, 3, stride=2, padding=1), nn.Conv2d(5, 6, 1, stride=2)
        self.head = nn.Linear(6 * 9, 4)

    def forward(self, x):
        x = self.n0(self.stem(x)).relu()
        self.seen = {"stem": x}
        x = F.gelu(self.left(x) + self.right(x))
        self.seen["left"] = x
        return self.head(x.flatten(1))


@pytest.fixture(scope="module")
def net():
    return fill(Net()).double().eval()


def data(count=3, size=4):
    x = images(count * size, 1, 6, 6).double()
    y = torch.arange(count * size) % 4
    return [(x[i : i + size], y[i : i + size]) for i in range(0, count * size, size)]


def seen(net, x):
    net(x)
    return net.seen


def test_activations_are_sums_over_all_examples_and_positions(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    found = collect(g, {"activations"}, batches=data())
    x = torch.cat([x for x, _ in data()])
    with torch.no_grad():
        tensors = {name: t.movedim(1, -1) for name, t in seen(copy.deepcopy(net), x).items()}
    for name, readers in (("stem", 2), ("left", 1)):
        t, fields = tensors[name], found.of("activations", name)
        expected = {
            "zeros": (t == 0).sum((0, 1, 2)).double(),
            "sum": t.sum((0, 1, 2)),
            "absolute": t.abs().sum((0, 1, 2)),
            "square": t.square().sum((0, 1, 2)),
            "lowest": t.amin((0, 1, 2)),
            "highest": t.amax((0, 1, 2)),
        }
        for field, value in expected.items():
            assert fields[field].shape == (readers, value.numel())
            for row in fields[field]:
                torch.testing.assert_close(row, value, rtol=1e-12, atol=1e-14)
        assert fields["count"].tolist() == [t[..., 0].numel()] * readers
    energy = tensors["stem"].abs().mean((1, 2)).square().sum(0)
    torch.testing.assert_close(found.of("activations", "stem")["energy"][0], energy, rtol=1e-12, atol=0)


def test_a_unit_that_holds_several_positions_of_a_layer_is_their_sum(net):
    """The head reads 9 positions of each unit; energy is summed over them, as over the dimensions of a head."""
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    fields = collect(g, {"activations"}, batches=data()).of("activations", "left")
    t = seen(copy.deepcopy(net), torch.cat([x for x, _ in data()]))["left"].detach()
    torch.testing.assert_close(fields["energy"][0], t.square().sum((0, 2, 3)), rtol=1e-12, atol=0)


def test_gradients_by_example_are_those_of_gates_on_what_is_read(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    fields = collect(g, {"example_gradients"}, batches=data())
    squares, absolutes = {}, {}
    for x, y in data():
        for one, target in zip(x, y, strict=True):
            gates = {n: torch.ones(s, dtype=torch.float64, requires_grad=True) for n, s in (("stem", 5), ("left", 6))}
            a = net.n0(net.stem(one[None])).relu() * gates["stem"][None, :, None, None]
            b = F.gelu(net.left(a) + net.right(a)) * gates["left"][None, :, None, None]
            loss = F.cross_entropy(net.head(b.flatten(1)), target[None])
            for name, gradient in zip(gates, torch.autograd.grad(loss, list(gates.values())), strict=True):
                squares[name] = squares.get(name, 0) + gradient**2
                absolutes[name] = absolutes.get(name, 0) + gradient.abs()
    for name in squares:
        found = fields.of("example_gradients", name)
        torch.testing.assert_close(found["square"], squares[name], rtol=1e-9, atol=1e-15)
        assert int(found["count"]) == 12
    # The head reads each of 9 positions as an input of its own.
    torch.testing.assert_close(
        fields.of("example_gradients", "left")["absolute"], absolutes["left"] / 9, rtol=1e-9, atol=1e-15
    )


def test_gradients_of_weights_are_those_of_autograd(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    found = collect(g, {"weight_gradients", "weight_squares"}, batches=data())
    other = copy.deepcopy(net)
    total, square = None, None
    for x, y in data():
        other.zero_grad()
        F.cross_entropy(other(x), y).backward()
        gradient = other.left.weight.grad
        total = 4 * gradient if total is None else total + 4 * gradient
        square = gradient**2 if square is None else square + gradient**2
    fields = found.of("weight_gradients", "left.weight")
    torch.testing.assert_close(fields["total"], total)
    torch.testing.assert_close(found.of("weight_squares", "left.weight")["square"], square)
    assert (int(fields["count"]), int(found.of("weight_squares", "left.weight")["count"])) == (12, 3)


def test_a_gram_matrix_is_that_of_the_unfolded_inputs(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    evidence = collect(g, {"inputs_gram"}, batches=data(), sampling=ALL)
    x = seen(copy.deepcopy(net), torch.cat([x for x, _ in data()]))["stem"].detach()
    rows = F.unfold(x, 3, padding=1, stride=2).movedim(1, 2).flatten(0, 1)
    left, right = inputs_of(g["stem"], evidence)
    assert (left.name, right.name) == ("left.weight", "right.weight")
    torch.testing.assert_close(left.gram, rows.T @ rows)
    torch.testing.assert_close(left.sum, rows.sum(0))
    assert left.count == len(rows)
    y = net.left(x).movedim(1, -1).flatten(0, 2) - net.left.bias
    torch.testing.assert_close(left.gram @ left.weight.T, rows.T @ y)  # what the module's docstring promises
    assert torch.equal(left.columns, torch.arange(45).reshape(5, 9))
    assert torch.equal(right.columns, torch.arange(5)[:, None])


def test_sampled_rows_are_rows_and_the_seed_decides_which(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())

    def gram(seed):
        return collect(g, {"inputs_gram"}, batches=data(), sampling=Sampling(points=4, seed=seed)).of(
            "inputs_gram", "left.weight"
        )

    assert torch.equal(gram(0)["gram"], gram(0)["gram"])
    assert not torch.equal(gram(0)["gram"], gram(1)["gram"])
    assert int(gram(0)["count"]) == 12 * 4


def test_one_pass_serves_all_kinds_and_gives_what_each_gives_alone(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    kinds = [k for k in COLLECTORS.all() if k != "blocks"]  # this net has no residual block
    passes = []

    def stream():
        passes.append(1)
        yield from data()

    together = collect(g, kinds, batches=stream())
    assert len(passes) == 1
    for kind in kinds:
        alone = collect(g, {kind}, batches=data()).values[kind]
        assert alone.keys() == together.values[kind].keys() != set()
        for owner, fields in alone.items():
            for name, tensor in fields.items():
                torch.testing.assert_close(together.values[kind][owner][name], tensor, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", sorted(COLLECTORS.all()))
def test_nothing_is_touched(net, kind):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    with assert_unchanged(net):
        collect(g, {kind}, batches=data())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("kind", sorted(COLLECTORS.all()))
def test_batches_may_be_cut_otherwise(net, kind):
    """Sums are over examples, positions or weights; only what is squared by batch depends on the batches."""
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    small = collect(g, {kind}, batches=data(3, 4), sampling=ALL).values[kind]
    large = collect(g, {kind}, batches=data(1, 12), sampling=ALL).values[kind]
    by_batch = {"gradients", "norm_gradients", "weight_gradients", "weight_squares", "weight_effects", "curvature"}
    if kind in by_batch:
        return
    for owner, fields in small.items():
        for name, tensor in fields.items():
            torch.testing.assert_close(tensor, large[owner][name], rtol=1e-9, atol=1e-13)


def test_it_is_stored_and_read_for_the_same_weights_only(net, tmp_path):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    found = collect(g, {"activations", "gradients"}, batches=data(), seed=7)
    found.save(tmp_path / "e.safetensors")
    again = Evidence.load(tmp_path / "e.safetensors", net)
    assert again.seed == 7
    assert {k: {o: set(f) for o, f in v.items()} for k, v in again.values.items()} == {
        k: {o: set(f) for o, f in v.items()} for k, v in found.values.items()
    }
    same = secateur.score(g, "taylor", evidence=found)
    assert all(torch.equal(v, same[k]) for k, v in secateur.score(g, "taylor", evidence=again).items())
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.stem.weight.add_(1e-6)
    with pytest.raises(CheckpointError, match="other weights"):
        Evidence.load(tmp_path / "e.safetensors", other)


def test_what_is_missing_is_said(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    with pytest.raises(UnknownName, match="activations"):
        collect(g, {"activation"}, batches=data())
    with pytest.raises(NeedsData, match="give batches="):
        collect(g, {"activations"})
    with pytest.raises(NeedsData, match="batches are empty"):
        collect(g, {"activations"}, batches=[])
    with pytest.raises(NeedsData, match="batch 1 gives an output of NaN"):
        collect(g, {"activations"}, batches=[data()[0], (data()[1][0] * float("nan"), None)])
    with pytest.raises(NeedsData, match="holds no gradients"):
        secateur.score(g, "taylor", evidence=collect(g, {"activations"}, batches=data()))
    grouped = graph("grouped")
    evidence = collect(grouped, {"inputs_gram"}, batches=[(grouped.example, None)])
    held = {name for c in grouped.trace.contractions if (name := c.weight) in evidence.values["inputs_gram"]}
    group = next(g for g in grouped.groups if any(m.reads and m.tensor not in held for m in g.members))
    with pytest.raises(BadModel, match="no inputs_gram"):
        inputs_of(group, evidence)


class TwoHeads(nn.Module):
    """A classifier, and a head that the loss does not see."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.body, self.side = nn.Linear(5 * 36, 6), nn.Linear(5 * 36, 3)
        self.head, self.other = nn.Linear(6, 4), nn.Linear(3, 2)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu().flatten(1)
        return self.head(self.body(x).relu()), self.other(self.side(x).relu())


@pytest.mark.parametrize("kind", [None, *(k for k, c in COLLECTORS.all().items() if c.data)])
def test_a_batch_leaves_no_tensors_to_the_garbage_collector(kind):
    """Activations in a cycle of references would stay until it runs, which counts objects, not bytes."""
    g = secateur.trace(fill(TwoHeads()).eval(), images(2, 1, 6, 6))
    held = []

    def batches():
        for x, y in data(6):
            held.append(sum(o.numel() for o in gc.get_objects() if issubclass(type(o), torch.Tensor)))
            yield x.float(), y

    gc.collect()
    gc.disable()
    try:
        collect(
            g,
            {kind} if kind else {k for k, c in COLLECTORS.all().items() if c.data},
            batches=batches(),
            loss=lambda output, y: F.cross_entropy(output[0], y),
            sampling=Sampling(points=1, images=4),
        )
    finally:
        gc.enable()
    # From the third batch on, when all sums are there; covariance keeps rows until there are more of them than units.
    assert held[-1] == held[-2] == held[-3], held


def test_targets_are_not_looked_at_without_need(net):
    g = secateur.trace(net, images(2, 1, 6, 6).double())
    found = collect(g, {"activations", "inputs_gram"}, batches=[(x, None) for x, _ in data()])
    assert all(found.values[kind] for kind in ("activations", "inputs_gram"))
