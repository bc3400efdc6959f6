"""Average percentage of zeros: planted zeros, counted by hand; what has no ReLU is refused by name."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, graph, images
from secateur.errors import BadModel, NeedsData
from secateur.evidence.collect import collect
from secateur.experiments.models import build
from secateur.surgery.mask import masked_forward


def mlp(width=6, activation=None, bias=None):
    """A hidden layer whose units see the inputs one to one, and a reader; whole numbers, so that all sums are exact."""
    net = nn.Sequential(nn.Linear(width, width), activation or nn.ReLU(), nn.Linear(width, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(width))
        net[0].bias.copy_(torch.zeros(width) if bias is None else torch.as_tensor(bias))
        net[2].weight.copy_(torch.arange(3 * width).reshape(3, width) % 5 - 2.0)
        net[2].bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    return net.eval()


def scores(net, x, criterion="apoz", size=None):
    """Unscaled."""
    g = secateur.trace(net, x[:2])
    size = size or len(x)
    evidence = secateur.collect(g, criterion, batches=[(x[i : i + size], None) for i in range(0, len(x), size)])
    return secateur.criteria()[criterion]().score(g["0"], evidence)


def whole_numbers(rows=16, width=6):
    return torch.randint(-4, 5, (rows, width), generator=torch.Generator().manual_seed(0)).float()


def test_a_dead_unit_scores_nothing_and_its_removal_changes_no_bit():
    net, x = mlp(bias=[0, -1e6, 0, 0, 0, 0]), whole_numbers()
    found = scores(net, x)
    assert found[1] == 0
    assert (found[[0, 2, 3, 4, 5]] > 0).all()
    g = secateur.trace(net, x[:2])
    plan = secateur.Plan.keeping(g, {"0": [0, 2, 3, 4, 5]})
    assert torch.equal(secateur.cut(g, plan).model(x), net(x))
    net = fill(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)))
    net[0].bias.data[2] = -1e6
    g, x = secateur.trace(net.eval(), images(2, 1, 8, 8)), images(2, 1, 8, 8)
    alive = torch.from_numpy(g.alive({"0": np.array([0, 1, 3])}))
    assert torch.equal(masked_forward(net, g.trace, x, alive), net(x))


def test_a_unit_that_is_always_on_has_no_zeros():
    assert torch.equal(scores(mlp(bias=[5] * 6), whole_numbers()), torch.ones(6, dtype=torch.float64))


def test_half_zeros_score_a_half():
    x = torch.tensor([[1.0, -1.0], [2.0, 3.0], [-3.0, -4.0], [-1.0, 2.0]]).repeat_interleave(2, 0)
    assert scores(mlp(2), x).tolist() == [0.5, 0.5]


def test_zeros_are_those_of_numpy():
    net = fill(nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten()))
    net = fill(nn.Sequential(*net, nn.Linear(4 * 36, 2))).eval()
    x = images(7, 1, 8, 8)
    g = secateur.trace(net, x[:1])
    evidence = secateur.collect(g, "apoz", batches=[(x[:4], None), (x[4:], None)])
    with torch.no_grad():
        first, second = net[:2](x).numpy(), net[:4](x).numpy()
    for name, maps in (("0", first), ("2", second)):
        found = secateur.criteria()["apoz"]().score(g[name], evidence)
        np.testing.assert_array_equal(found, 1 - (maps == 0).mean((0, 2, 3)))


@pytest.mark.parametrize("size", [1, 3, 16])
def test_the_cut_into_batches_changes_nothing(size):
    """Counts are kept, not means: a last batch that is smaller weighs what it holds."""
    net, x = mlp(), whole_numbers()
    assert torch.equal(scores(net, x, size=size), scores(net, x))


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.1), nn.GELU(), nn.Identity(), nn.Tanh(), nn.ELU()])
def test_what_is_not_behind_a_relu_is_refused(activation):
    with pytest.raises(BadModel, match=r"group '0' goes down to -\d.*not behind a ReLU.*\"mean-activation\""):
        scores(mlp(activation=activation), whole_numbers() + 0.5)


def test_a_leaky_relu_has_no_zeros_at_all():
    """So that its average percentage of zeros is 0 whatever it sees."""
    net, x = mlp(activation=nn.LeakyReLU(0.1)), whole_numbers() + 0.5
    g = secateur.trace(net, x[:2])
    assert not collect(g, {"activations"}, batches=[(x, None)]).of("activations", "0")["zeros"].any()


class Trunk(nn.Module):
    """One layer read through two ReLUs, the second of which is off more often."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.left(F.relu(x)) + self.right(F.relu(x - 1))


def test_of_several_readers_the_one_with_the_fewest_zeros_counts():
    net = fill(Trunk()).eval()
    x = images(50, 4)
    g = secateur.trace(net, x[:2])
    found = secateur.criteria()["apoz"]().score(g["stem"], secateur.collect(g, "apoz", batches=[(x, None)]))
    with torch.no_grad():
        seen = net.stem(x)
    assert torch.equal(found, 1 - (seen <= 0).double().mean(0))
    assert ((seen <= 1).double().mean(0) > (seen <= 0).double().mean(0)).any()


class Residual(nn.Module):
    """A trunk that a convolution and a head behind global average pooling read, the latter by a pool of some kind."""

    def __init__(self, pool):
        super().__init__()
        self.pool, self.stem = pool, nn.Conv2d(1, 6, 3, padding=1)
        self.a, self.b, self.head = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1), nn.Linear(6, 3)

    def maps(self, x):
        first = F.relu(self.stem(x) - 0.3)
        return first, F.relu(first + self.b(F.relu(self.a(first))) - 0.2)

    def forward(self, x):
        return self.head(self.pool(self.maps(x)[1]))


POOLS = {
    "mean": lambda x: x.mean((2, 3)),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "seen through einsum": lambda x: torch.einsum("bchw->bc", x) / 64,
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_head_behind_pooling_counts_the_zeros_of_the_trunk(pool):
    """One whose pooling cannot be followed does not count at all; either way units are told apart."""
    net, x = fill(Residual(POOLS[pool])).eval(), images(9, 1, 8, 8)
    g = secateur.trace(net, x[:1])
    evidence = secateur.collect(g, "apoz", batches=[(x[:5], None), (x[5:], None)])
    with torch.no_grad():
        read = [(m.numpy() == 0).mean((0, 2, 3)) for m in net.maps(x)]
    expected = 1 - (read[0] if pool == "seen through einsum" else np.minimum(*read))
    np.testing.assert_array_equal(secateur.criteria()["apoz"]().score(g["stem"], evidence), expected)
    assert len(set(expected)) == 6


def test_pooling_that_cannot_be_followed_is_counted_as_read_where_nothing_else_reads():
    net, x = fill(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), Summed(), nn.Linear(4, 2))).eval(), images(9, 1, 5, 5)
    with torch.no_grad():
        read = net[:3](x)
    assert torch.equal(scores(net, x), 1 - (read == 0).double().mean(0))


class Summed(nn.Module):
    def forward(self, x):
        return torch.einsum("bchw->bc", x)


def test_a_maximum_over_space_does_not_pass_for_a_relu():
    net = fill(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2))).eval()
    net[0].bias.data += 1
    x = images(9, 1, 8, 8)
    assert net[:2](x).min() >= 0
    with pytest.raises(BadModel, match="not behind a ReLU"):
        scores(net, x)


def test_the_trunk_of_a_resnet_is_told_apart_unit_by_unit():
    """Where zeros are those of pooled maps, hardly any are 0 and all units alike."""
    net, x = fill(build("resnet20")).eval(), images(8, 3, 32, 32)
    g = secateur.trace(net, x[:1])
    evidence, criterion = secateur.collect(g, "apoz", batches=[(x, None)]), secateur.criteria()["apoz"]()
    found = {group.name: criterion.score(group, evidence) for group in g.groups}
    assert all(len(s.unique()) > len(s) / 2 for s in found.values())


def test_ties_and_dead_layers_are_finite_and_prune():
    """All units dead, and one unit alone."""
    dead = mlp(bias=[-1e6] * 6)
    g = secateur.trace(dead, whole_numbers()[:2])
    found = secateur.score(g, "apoz", batches=[(whole_numbers(), None)])["0"]
    assert torch.equal(found, torch.zeros(6, dtype=torch.float64))
    for allocator in ("ranked", "uniform"):
        plan = secateur.allocate(g, {"0": found}, secateur.Budget(macs=0.5), allocator=allocator)
        assert plan.kept["0"].size == 3
    assert scores(mlp(1), whole_numbers(16, 1)).shape == (1,)


def test_no_data_and_broken_data_are_refused():
    net, x = mlp(), whole_numbers()
    g = secateur.trace(net, x[:2])
    for batches, why in ((None, "give batches"), ([], "are empty"), ([(x * float("nan"), None)], "output of NaN")):
        with pytest.raises(NeedsData, match=why):
            secateur.score(g, "apoz", batches=batches)


def test_a_network_keeps_its_living_units():
    """In a net with half of the first layer dead, a budget that half of it meets takes the dead ones."""
    model = copy.deepcopy(graph("plain").model)
    gone = [0, 3, 4, 7]
    model.one[1].bias.data[gone] = -1e6
    g = secateur.trace(model, graph("plain").example)
    data = [(images(6, 1, 8, 8), None)]
    pruned = secateur.prune(model, g.example, criterion="apoz", batches=data, budget=secateur.Budget(macs=0.55))
    assert not set(gone) & set(pruned.plan.kept["one.0"].tolist())
