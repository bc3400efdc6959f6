"""Mean, deviation and norms of activations against NumPy on stored tensors and against loops over weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, graph, images
from secateur.criteria.activation_norm import ActivationNorm
from secateur.criteria.activation_std import ActivationStd
from secateur.criteria.mean_activation import MeanActivation
from secateur.errors import BadModel, NeedsData
from secateur.evidence.collect import collect

CRITERIA = ["mean-activation", "activation-std", "activation-norm"]


class Block(nn.Module):
    """A transformer's layer, attention written out or given to torch, q, k and v apart."""

    def __init__(self, width=12, heads=3, kv_heads=3, ffn=10):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.embed = nn.Linear(5, width)
        self.q = nn.Linear(width, heads * self.head_dim)
        self.k, self.v = (nn.Linear(width, kv_heads * self.head_dim) for _ in range(2))
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, ffn), nn.Linear(ffn, width)
        self.classes = nn.Linear(width, 4)

    def forward(self, x):
        self.seen = {}
        x = self.embed(x)
        y = self.seen["norm1"] = self.norm1(x)
        q = self.q(y).view(*y.shape[:2], self.heads, self.head_dim).transpose(1, 2)
        k, v = (p(y).view(*y.shape[:2], self.kv_heads, self.head_dim).transpose(1, 2) for p in (self.k, self.v))
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        self.seen["out"] = y
        x = x + self.out(y)
        y = self.seen["norm2"] = self.norm2(x)
        y = self.seen["down"] = F.gelu(self.up(y))
        x = x + self.down(y)
        self.seen["head"] = x.mean(1)
        return self.classes(x.mean(1))


def block(**options):
    return fill(Block(**options)).double().eval()


def tokens(count=6):
    return images(count, 7, 5).double()


def raw(criterion, net, group, x, size=None):
    g = secateur.trace(net, x[:2])
    size = size or len(x)
    batches = [(x[i : i + size], None) for i in range(0, len(x), size)]
    return criterion.score(g[group], collect(g, criterion.needs, batches=batches))


def seen(net, x):
    """What layers read, by name, as NumPy, channels last."""
    with torch.no_grad():
        net(x)
    return {name: t.numpy() for name, t in net.seen.items()}


def minitron(x):
    """Mean of |x| over the sequence, then the L2 norm over examples."""
    return np.sqrt((np.abs(x).mean(1) ** 2).sum(0))


def test_means_and_deviations_are_those_of_numpy():
    net, x = block(), tokens()
    down = seen(net, x)["down"]
    np.testing.assert_allclose(raw(MeanActivation(), net, "up", x, 4), np.abs(down).mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(raw(ActivationStd(), net, "up", x, 4), down.std((0, 1)), rtol=1e-9)


def test_several_readers_are_averaged():
    """The residual stream is read behind two norms and by the classifier; q, k and v read one tensor each time."""
    net, x = block(), tokens()
    found = seen(net, x)
    readings = [*[found["norm1"]] * 3, found["norm2"], found["head"][:, None]]
    name = next(g.name for g in secateur.trace(net, x).groups if g.kind == "stream")
    mean = np.mean([np.abs(r).mean((0, 1)) for r in readings], 0)
    np.testing.assert_allclose(raw(MeanActivation(), net, name, x), mean, rtol=1e-12)
    deviation = np.mean([r.std((0, 1)) for r in readings], 0)
    np.testing.assert_allclose(raw(ActivationStd(), net, name, x), deviation, rtol=1e-9)


def test_norms_of_neurons_heads_and_streams():
    """Neurons: the norm. Heads: its L2 norm over the head's dimensions. Streams: a sum over what is read."""
    net, x = block(), tokens()
    found = seen(net, x)
    np.testing.assert_allclose(raw(ActivationNorm(), net, "up", x, 4), minitron(found["down"]), rtol=1e-12)
    groups = {g.kind: g.name for g in secateur.trace(net, x).groups}
    heads = np.linalg.norm(minitron(found["out"]).reshape(3, 4), axis=1)
    stream = minitron(found["norm1"]) + minitron(found["norm2"]) + minitron(found["head"][:, None])
    np.testing.assert_allclose(raw(ActivationNorm(), net, groups["stream"], x, 4), stream, rtol=1e-12)
    g = secateur.trace(net, x[:2])
    evidence = collect(g, {"activations"}, batches=[(x, None)])
    last = evidence.of("activations", groups["head"])["energy"].sqrt()[-1]  # queries and keys are read as well
    np.testing.assert_allclose(last, heads, rtol=1e-12)


def test_query_heads_that_share_keys_are_one_unit():
    net, x = block(heads=6, kv_heads=3), tokens()
    g = secateur.trace(net, x[:2])
    group = next(g for g in g.groups if g.kind == "head")
    assert group.size == 3
    energy = collect(g, {"activations"}, batches=[(x, None)]).of("activations", group.name)["energy"]
    expected = np.linalg.norm(minitron(seen(net, x)["out"]).reshape(3, 4), axis=1)
    np.testing.assert_allclose(energy.sqrt()[-1], expected, rtol=1e-12)


def test_one_tensor_read_by_three_layers_counts_once():
    net, x = block(), tokens()
    g = secateur.trace(net, x[:2])
    name = next(g.name for g in g.groups if g.kind == "stream")
    for size in (6, 2):
        batches = [(x[i : i + size], None) for i in range(0, 6, size)]
        new = collect(g, {"activations"}, batches=batches).of("activations", name)["new"]
        assert new.tolist() == [True, False, False, True, True]


def test_a_tensor_that_changed_in_place_is_another():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            x = self.stem(x)
            return self.left(x) + self.right(x.relu_())

    net, x = fill(InPlace()).double().eval(), images(8, 4).double()
    g = secateur.trace(net, x[:2])
    fields = collect(g, {"activations"}, batches=[(x, None)]).of("activations", "stem")
    with torch.no_grad():
        y = net.stem(x)
    assert fields["new"].all()
    torch.testing.assert_close(fields["sum"], torch.stack([y.sum(0), y.relu().sum(0)]))


def test_the_order_of_examples_and_batches_changes_nothing():
    net, x = block(), tokens()
    for criterion in (MeanActivation(), ActivationStd(), ActivationNorm(), ActivationNorm(weights=True)):
        one = raw(criterion, net, "up", x)
        torch.testing.assert_close(raw(criterion, net, "up", x.flip(0), 1), one, rtol=1e-9, atol=0)


# --- with weights -------------------------------------------------------------------------------------------------


class Readers(nn.Module):
    """One stem of 6 channels for every kind of reader."""

    def __init__(self, kind):
        super().__init__()
        self.stem, self.kind = nn.Conv2d(1, 6, 3, padding=1), kind
        self.read = {
            "conv": lambda: nn.Conv2d(6, 4, 3, stride=2),
            "grouped": lambda: nn.Conv2d(6, 4, 3, groups=2),
            "transposed": lambda: nn.ConvTranspose2d(6, 4, 3, stride=2),
            "linear": lambda: nn.Linear(6, 4),
            "flat": lambda: nn.Linear(6 * 25, 4),
            "raw": lambda: nn.ParameterList([torch.zeros(6, 4)]),
        }[kind]()

    def forward(self, x):
        x = F.relu(self.stem(x))
        self.x = x
        if self.kind == "linear":
            return self.read(x.mean((2, 3)))
        if self.kind == "raw":
            return x.mean((2, 3)) @ self.read[0]
        return self.read(x.flatten(1) if self.kind == "flat" else x)


@pytest.mark.parametrize("kind", ["conv", "grouped", "transposed", "linear", "flat", "raw"])
def test_weights_times_norms_by_loops(kind):
    """sum over weights w that meet input j of |w| * ||x_j||, added up over what each unit holds."""
    net, x = fill(Readers(kind)).double().eval(), images(5, 1, 5, 5).double()
    g = secateur.trace(net, x[:2])
    group = g.groups[0]
    found = raw(ActivationNorm(weights=True), net, group.name, x, 2)
    with torch.no_grad():
        net(x)
    maps = net.x if kind in ("conv", "grouped", "transposed") else net.x.mean((2, 3))
    maps = net.x.flatten(1) if kind == "flat" else maps
    norms = maps.movedim(1, 0).flatten(1).norm(dim=1).numpy()
    w = np.abs((net.read[0] if kind == "raw" else net.read.weight).detach().numpy())
    each = np.zeros(len(norms))
    for j in range(len(norms)):
        if kind == "grouped":  # outputs 0, 1 read inputs 0 to 2; outputs 2, 3 the rest
            each[j] = w[2 * (j // 3) : 2 * (j // 3) + 2, j % 3].sum() * norms[j]
        else:
            each[j] = (w[j] if kind in ("transposed", "raw") else w[:, j]).sum() * norms[j]
    units = {"flat": np.arange(150).reshape(6, 25), "grouped": np.arange(6).reshape(2, 3).T}
    index = units.get(kind, np.arange(6)[:, None])
    if kind == "grouped" and group.kind == "block":
        index = np.arange(6).reshape(2, 3)
    np.testing.assert_allclose(found, each[index].sum(1), rtol=1e-12)


class Tied(nn.Module):
    """A weight that is used as it is and transposed, and a table that is also a classifier."""

    def __init__(self, width):
        super().__init__()
        self.table, self.inner = nn.Embedding(7, width), nn.Parameter(torch.zeros(4, width))

    def forward(self, tokens):
        x = self.table(tokens)
        self.seen = [x, F.relu(F.linear(x, self.inner))]
        self.seen.append(x + F.linear(self.seen[1], self.inner.T))
        return F.linear(self.seen[2], self.table.weight)


@pytest.mark.parametrize("width", [5, 4], ids=["a weight", "a square weight"])
def test_weights_that_are_used_both_ways(width):
    net, x = fill(Tied(width)).double().eval(), torch.arange(12).reshape(3, 4) % 7
    g = secateur.trace(net, x)
    inner, table = net.inner.detach().abs(), net.table.weight.detach().abs()
    with torch.no_grad():
        net(x)
    norms = [t.flatten(0, -2).norm(dim=0) for t in net.seen]
    expected = {
        "stream": inner.sum(0) * norms[0] + table.sum(0) * norms[2],
        "neuron": inner.sum(1) * norms[1],
    }
    assert {group.kind for group in g.groups} == set(expected)
    for group in g.groups:
        torch.testing.assert_close(raw(ActivationNorm(weights=True), net, group.name, x), expected[group.kind])


def test_inputs_of_ones_leave_the_magnitude_of_weights():
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)).double()
    net[0].weight.data.zero_()
    net[0].bias.data.fill_(1.0)
    found = raw(ActivationNorm(weights=True), net, "0", images(9, 3).double())
    np.testing.assert_allclose(found, 3 * net[2].weight.detach().abs().sum(0), rtol=1e-12)


def test_a_group_that_no_weight_reads_is_refused():
    """Its weight is computed from two parameters."""
    net = fill(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))))
    x = images(3, 4)
    assert raw(ActivationNorm(), net, "0", x).shape == (6,)
    with pytest.raises(BadModel, match=r"no layer that reads group .* weight of its own; use weights=False"):
        raw(ActivationNorm(weights=True), net, "0", x)


# --- traps --------------------------------------------------------------------------------------------------------


def identity(width, dtype=torch.float32):
    net = nn.Sequential(nn.Linear(width, width, bias=False), nn.Identity(), nn.Linear(width, 2)).to(dtype)
    net[0].weight.data.copy_(torch.eye(width))
    return net


def test_what_never_varies_has_no_deviation():
    """The difference of two large sums in float32 would say otherwise."""
    x = torch.tensor([1e4 + 1 / 3, 0.1, 0.0, 1.0]).repeat(999, 1)
    x[::2, 3] = -1.0
    found = raw(ActivationStd(), identity(4), "0", x, 7)
    assert found[:3].tolist() == [0, 0, 0]
    assert abs(found[3] - 1) < 1e-3


def test_a_deviation_is_never_more_than_half_the_range():
    x = 3e3 + images(500, 4) * 1e-3
    found = raw(ActivationStd(), identity(4), "0", x, 50)
    half = (x.amax(0) - x.amin(0)) / 2
    assert (found <= half * (1 + 1e-6)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_are_not_in_half_precision(dtype):
    """60,000 ones would stop at 2,048 in float16."""
    net = identity(2, dtype)
    x = torch.ones(60_000, 2, dtype=dtype)
    x[:, 1] = 0.5
    assert raw(MeanActivation(), net, "0", x).tolist() == [1.0, 0.5]
    assert raw(ActivationStd(), net, "0", x).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_dead_single_and_tied_units(criterion):
    dead = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    dead[0].weight.data.zero_()
    dead[0].bias.data.fill_(-1.0)
    x = images(6, 3)
    scores = secateur.score(secateur.trace(dead, x), criterion, batches=[(x, None)])["0"]
    assert torch.equal(scores, torch.zeros(4, dtype=torch.float64))
    one = secateur.trace(nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2)), x)
    assert secateur.score(one, criterion, batches=[(x, None)])["0"].shape == (1,)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_no_data_and_broken_data_are_refused(criterion):
    g, x = graph("mlp"), images(2, 12)
    for batches, why in ((None, "give batches"), ([], "are empty"), ([(x, None), (x * float("nan"), None)], "batch 1")):
        with pytest.raises(NeedsData, match=why):
            secateur.score(g, criterion, batches=batches)
