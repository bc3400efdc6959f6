"""Weights that layers see in part or in another shape: scores against explicit gates and sums by hand, and the cut."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, images
from secateur.errors import BadModel, SurgeryError
from secateur.groups.plan import Fold, Plan


class Net(nn.Module):
    """One group, written through views of `w`; a gate, if there is one, multiplies what is read of it."""

    shape, width, size, axis = (3, 4, 5), 12, 4, 1  # the units are indices of this axis of the weight

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.zeros(self.shape)), nn.Parameter(torch.zeros(self.shape[0]))
        self.head, self.heads = nn.Linear(self.width, 2), 4

    def forward(self, x, z=1.0):
        return self.head(self.hidden(x, z))


class Merged(Net):
    """Two axes of the weight seen as one: (3, 4, 5) as (12, 5)."""

    def hidden(self, x, z):
        return (F.linear(x, self.w.flatten(0, 1)).unflatten(1, (-1, self.heads)) * z).flatten(1).relu()


class Einsum(Net):
    def hidden(self, x, z):
        return (torch.einsum("bd,hkd->bhk", x, self.w) * z).flatten(1).relu()


class Flat(Net):
    """The inputs in two axes."""

    shape, width, size, axis = (6, 5, 1), 6, 6, 0

    def hidden(self, x, z):
        return (F.linear(x, self.w.flatten(1), self.b) * z).relu()


class Halves(Net):
    """One matrix for two layers that share their units: the second half holds those of the gates."""

    shape, width, size, axis = (10, 5), 5, 5, 0

    def hidden(self, x, z):
        (a, b), (c, d) = self.w.chunk(2), self.b.chunk(2)
        return F.linear(x, a, c).relu() * F.linear(x, b, d).sigmoid() * z


class Crossed(Net):
    """Attention from one sequence to another, with one matrix for queries, keys and values, each used by itself."""

    shape, width, size, axis = (24, 5), 8, 4, 0

    def hidden(self, x, z):
        z = torch.as_tensor(z, dtype=x.dtype).expand(self.heads)[:, None]
        x, y = x.reshape(2, -1, 5), x.reshape(2, -1, 5).flip(1).tanh()
        pairs = zip((x, y, y), self.w.chunk(3), self.b.chunk(3), strict=True)
        q, k, v = (F.linear(a, w, b).unflatten(-1, (self.heads, -1)).transpose(1, 2) for a, w, b in pairs)
        return (F.scaled_dot_product_attention(q, k, v).transpose(1, 2) * z).flatten(2)


NETS = {"merged": Merged, "einsum": Einsum, "flat": Flat, "halves": Halves, "crossed": Crossed}


def made(name):
    net = fill(NETS[name]()).double()
    x = images(6, 5).double()
    graph = secateur.trace(net, x)
    group = next(g for g in graph.groups if any(m.tensor == "w" for m in g.members))
    return net, x, graph, group


def loss(output, _):
    return output.square().sum()


@pytest.mark.parametrize("name", NETS)
def test_gates_are_those_of_what_the_layers_give(name):
    net, x, graph, group = made(name)
    z = torch.ones(group.size, dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        moved = [[float(loss(net(x, z + s * e), None)) for s in (step, -step)] for e in torch.eye(group.size).double()]
    differences = torch.tensor([(a - b) / (2 * step) for a, b in moved], dtype=torch.float64)
    scores = secateur.score(graph, "snip", batches=[(x, None)], loss=loss)
    torch.testing.assert_close(scores[group.name], differences.abs(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_sums_over_weights_are_over_all_that_a_unit_holds(name):
    net, _, graph, group = made(name)
    size, axis = net.size, net.axis
    assert group.size == size
    w = net.w.detach().abs()
    if name == "crossed":
        by_hand = w.reshape(3, size, -1).sum((0, 2))
    elif name == "halves":
        by_hand = w.reshape(2, size, 5).sum((0, 2))
    else:
        by_hand = w.movedim(axis, 0).flatten(1).sum(1)
    torch.testing.assert_close(secateur.score(graph, "l1")[group.name], by_hand / by_hand.mean())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("criterion", ["l2", "taylor", "taylor-weight", "taylor-so", "fisher", "obd", "grasp"])
def test_a_cut_by_scores_gives_what_the_masked_model_gives(criterion, name):
    net, x, _, _ = made(name)
    options = {"budget": secateur.Budget(params=0.7), "criterion": criterion, "batches": [(x, None)], "loss": loss}
    if (name, criterion) == ("crossed", "fisher"):  # it takes three rows of a batch for one sequence
        with pytest.raises(BadModel, match="examples cannot be told apart where 'head' reads it"):
            secateur.prune(net, x, **options)
        return
    pruned = secateur.prune(net, x, **options)
    assert pruned.check.max_error <= pruned.check.tolerance
    assert pruned.model.w.shape[net.axis] < net.w.shape[net.axis]


def test_a_grouped_transposed_convolution_holds_one_column_for_several_outputs():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.ReLU(), nn.Conv2d(6, 2, 1))
    x = images(2, 3, 5, 5).double()
    graph = secateur.trace(fill(net).double(), x)
    by_hand = net[1].weight.detach().abs().sum((0, 2, 3))
    torch.testing.assert_close(secateur.score(graph, "l1")["1"], by_hand / by_hand.mean())


class Read(nn.Module):
    """The units of the first layer meet the last axis of a matrix that is seen in another shape."""

    def __init__(self):
        super().__init__()
        self.first, self.w, self.head = nn.Linear(5, 5), nn.Parameter(torch.zeros(3, 4, 5)), nn.Linear(12, 2)

    def forward(self, x):
        return self.head(F.linear(self.first(x).relu(), self.w.flatten(0, 1)).relu())


def test_what_takes_a_weight_as_it_is_refuses_by_name():
    x = images(6, 5).double()
    graph = secateur.trace(fill(Read()).double(), x)
    for criterion in ("thinet", "lasso"):
        with pytest.raises(BadModel, match="'first'"):
            secateur.score(graph, criterion, batches=[(x, None)], loss=loss)
    plan = Plan.keeping(graph, {"first": [0, 1, 2, 3]})
    fold = Fold(group="first", reader="w", units=(4,), constants=((1.0,),))
    with pytest.raises(SurgeryError, match="w is used in part or in another shape"):
        secateur.cut(graph, Plan(edits=(*plan.edits, fold)))
