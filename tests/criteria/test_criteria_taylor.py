"""Taylor scores against explicit gates: modules that multiply by ones, and autograd."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import batches as any_batches
from held import loss as any_loss
from nets import fill, graph, images
from secateur.errors import NeedsData
from secateur.evidence.collect import collect


class Gate(nn.Module):
    """One factor a channel, one to begin with."""

    def __init__(self, size):
        super().__init__()
        self.z = nn.Parameter(torch.ones(size, dtype=torch.float64))

    def forward(self, x):
        return x * self.z.reshape(1, -1, *[1] * (x.dim() - 2))


class Twin(nn.Module):
    """A residual net with gates after its norms, or without any."""

    def __init__(self, gated, norm=True):
        super().__init__()
        gate = Gate if gated else lambda n: nn.Identity()
        bn = nn.BatchNorm2d if norm else lambda n: nn.Identity()
        self.stem, self.n0 = nn.Conv2d(1, 6, 3, padding=1, bias=not norm), bn(6)
        self.one, self.n1, self.g1 = nn.Conv2d(6, 8, 3, padding=1, bias=not norm), bn(8), gate(8)
        self.two, self.n2 = nn.Conv2d(8, 6, 3, padding=1, bias=not norm), bn(6)
        self.three, self.n3 = nn.Conv2d(6, 6, 1, bias=not norm), bn(6)
        self.shared, self.head = gate(6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.shared(self.n0(self.stem(x))).relu()
        x = (x + self.shared(self.n2(self.two(self.g1(self.n1(self.one(x))).relu())))).relu()
        x = (x + self.shared(self.n3(self.three(x)))).relu()
        return self.head(x.mean((2, 3)))


def twins(norm):
    plain = fill(Twin(False, norm)).double()
    gated = Twin(True, norm).double()
    gated.load_state_dict(plain.state_dict(), strict=False)
    return plain, gated.eval()


def data(count=3):
    x = images(count * 4, 1, 6, 6).double()
    y = torch.arange(count * 4) % 4
    return [(x[i : i + 4], y[i : i + 4]) for i in range(0, count * 4, 4)]


def gradients(gated, batches, gate):
    """dL/dz of each batch by autograd through a real gate: (batches, channels)."""
    found = []
    for x, y in batches:
        gated.zero_grad()
        F.cross_entropy(gated(x), y).backward()
        found.append(gate.z.grad.clone())
    return torch.stack(found)


@pytest.mark.parametrize("norm", [True, False], ids=["after the norm", "without a norm"])
def test_the_gate_gradient_is_that_of_a_real_gate(norm):
    plain, gated = twins(norm)
    g = secateur.trace(plain, data()[0][0])
    scores = secateur.score(g, "taylor", batches=data())
    inner = gradients(gated, data(), gated.g1)
    torch.testing.assert_close(scores["one"], inner.square().mean(0), rtol=1e-9, atol=0)
    shared = gradients(gated, data(), gated.shared)
    writers = 3  # stem, two and three: one gate, used three times; the squared sum is divided by their number
    torch.testing.assert_close(scores["stem"], shared.square().mean(0) / writers, rtol=1e-9, atol=0)


def test_squares_are_of_mini_batches():
    """The square of a batch's mean gradient, averaged over batches: the split into batches matters."""
    plain, _ = twins(True)
    g = secateur.trace(plain, data()[0][0])
    x, y = (torch.cat(t) for t in zip(*data(), strict=True))
    whole, split = (secateur.score(g, "taylor", batches=b)["one"] for b in ([(x, y)], data()))
    assert (split - whole).abs().max() > 1e-6 * split.max()
    assert split.sum() > whole.sum()


def test_batch_norm_identity():
    """dL/dz = gamma dL/dgamma + beta dL/dbeta, for a gate right after the norm."""
    plain, gated = twins(True)
    x, y = data()[0]
    plain.eval().zero_grad()
    F.cross_entropy(plain(x), y).backward()
    by_identity = plain.n1.weight * plain.n1.weight.grad + plain.n1.bias * plain.n1.bias.grad
    torch.testing.assert_close(by_identity.detach(), gradients(gated, [(x, y)], gated.g1)[0], rtol=1e-9, atol=1e-15)


def test_where_the_loss_is_linear_the_score_is_the_squared_change():
    """No activation after the norm and a linear loss: |L - L without unit k| = sqrt(I_k), exactly."""
    net = nn.Sequential(nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = fill(nn.Sequential(*net, nn.Linear(5, 3))).double()
    x, weights = images(4, 1, 6, 6).double(), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def loss(output, _):
        return (output * weights).sum()

    g = secateur.trace(net, x)
    scores = secateur.score(g, "taylor", batches=[(x, None)], loss=loss)["0"]
    with torch.no_grad():
        whole = loss(net.eval()(x), None)
        for k in range(5):
            small = secateur.cut(g, secateur.Plan.keeping(g, {"0": [u for u in range(5) if u != k]})).model.eval()
            assert abs(abs(whole - loss(small(x), None)) - scores[k].sqrt()) < 1e-12


@pytest.mark.parametrize("net", ["depthwise", "grouped", "mlpnorm", "flat", "concat"])
def test_a_unit_that_nothing_hears_scores_nothing(net):
    """Readers of unit 0 of the first group are zero: its gate cannot matter."""
    g = graph(net)
    model = copy.deepcopy(g.model)
    group = g.groups[0]
    for member in group.members:
        if member.role == "in":
            model.get_parameter(member.tensor).data.index_fill_(member.axis, torch.from_numpy(member.index[0]), 0.0)
    deaf = secateur.trace(model, g.example)
    scores = secateur.score(deaf, "taylor", batches=any_batches(g.example), loss=any_loss)[group.name]
    assert scores[0] <= 1e-12 * scores.max()


class Again(nn.Module):
    """One layer run twice, with a gate on what it writes, or without."""

    def __init__(self, gated, norm):
        super().__init__()
        self.stem, self.gate = nn.Linear(5, 6), Gate(6) if gated else nn.Identity()
        self.again, self.norm, self.head = (
            nn.Linear(6, 6),
            nn.BatchNorm1d(6) if norm else nn.Identity(),
            nn.Linear(6, 4),
        )

    def forward(self, x):
        x = self.gate(self.stem(x)).relu()
        x = self.gate(self.norm(self.again(x))).relu()
        return self.head(self.gate(self.norm(self.again(x))).relu())


@pytest.mark.parametrize("norm", [True, False])
def test_a_layer_run_twice_is_one_writer_with_one_gradient(norm):
    plain = fill(Again(False, norm)).double()
    gated = Again(True, norm).double().eval()
    gated.load_state_dict(plain.state_dict(), strict=False)
    x, y = images(6, 5).double(), torch.arange(6) % 4
    gated.zero_grad()
    F.cross_entropy(gated(x), y).backward()
    g = secateur.trace(plain, x)
    squares = collect(g, {"gradients"}, batches=[(x, y)]).of("gradients", "stem")["square"]
    torch.testing.assert_close(squares, gated.gate.z.grad.square(), rtol=1e-9, atol=0)


def test_data_may_be_a_generator_and_is_read_once():
    g = graph("plain")
    seen = []

    def stream():
        for x, y in [(images(4, 1, 8, 8), torch.arange(4))] * 2:
            seen.append(1)
            yield x, y

    scores = secateur.score(g, "taylor", batches=stream())
    assert len(seen) == 2
    assert all((s >= 0).all() for s in scores.values())


def test_what_is_missing_is_named():
    g = graph("plain")
    x, y = images(4, 1, 8, 8), torch.arange(4)
    for batches, reason in ((None, "give batches="), ([], "batches are empty")):
        with pytest.raises(NeedsData, match=reason):
            secateur.score(g, "taylor", batches=batches)
    with pytest.raises(NeedsData, match="does not depend on the model's parameters"):
        secateur.score(g, "taylor", batches=[(x, y)], loss=lambda out, _: torch.zeros(()))
    assert collect(g, {"weights"}).values == {}


def test_frozen_parameters_have_gradients_too():
    """requires_grad=False is the user's wish for training, not for scores."""
    g = graph("plain")
    model = copy.deepcopy(g.model).requires_grad_(False)
    batches = [(images(4, 1, 8, 8), torch.arange(4))]
    ours = secateur.score(secateur.trace(model, g.example), "taylor", batches=batches)
    theirs = secateur.score(g, "taylor", batches=batches)
    assert all(np.array_equal(ours[n], theirs[n]) for n in ours)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 2)

    def forward(self, x):
        n = self.norm
        x = F.batch_norm(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias)
        return self.head(F.relu(x).mean((2, 3)))


@pytest.mark.parametrize("criterion", ["taylor", "bn-scale"])
def test_a_norm_that_is_called_as_a_function(criterion):
    g = secateur.trace(fill(Functional()), images(4, 1, 8, 8))
    found = secateur.score(g, criterion, batches=[(images(4, 1, 8, 8), torch.arange(4) % 2)])["conv"]
    if criterion == "bn-scale":
        assert torch.equal(found, g.model.norm.weight.detach().double().abs())
    assert found.shape == (5,)
    assert (found > 0).all()
