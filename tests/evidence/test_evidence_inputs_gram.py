"""Gram matrices of what layers read: tied tables, places for an intercept, and targets from another network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, images
from secateur.errors import BadModel, NeedsData
from secateur.evidence.base import Sampling
from secateur.evidence.collect import collect
from secateur.evidence.contributions import contributions, problem
from secateur.evidence.inputs_gram import Towards, inputs_of


class Words(nn.Module):
    """A table of words that is the output layer, too."""

    def __init__(self):
        super().__init__()
        self.table, self.up, self.down = nn.Embedding(11, 6), nn.Linear(6, 9), nn.Linear(9, 6)

    def forward(self, tokens):
        x = self.table(tokens)
        return F.linear(x + self.down(self.up(x).relu()), self.table.weight)


@pytest.mark.parametrize("criterion", ["lasso", "thinet", "thinet-ls", "obs"])
def test_a_tied_table_is_read_by_the_output_layer_alone(criterion):
    net = fill(Words()).double()
    tokens = torch.randint(0, 11, (7, 5), generator=torch.Generator().manual_seed(0))
    graph = secateur.trace(net, tokens[:2])
    batches = [(tokens[:4], None), (tokens[4:], None)]
    evidence = collect(graph, {"inputs_gram"}, batches=batches, sampling=Sampling(points=10**6))
    stream = next(g for g in graph.groups if any(m.tensor == "table.weight" for m in g.members))
    with torch.no_grad():
        x = net.table(tokens)
        seen = {"up.weight": x, "table.weight": x + net.down(net.up(x).relu())}
    found = {
        i.name: gram
        for i, gram in zip(inputs_of(stream, evidence), contributions(stream, evidence, intercept=False), strict=True)
    }
    assert set(found) == set(seen)
    for name, h in seen.items():
        z = (h.flatten(0, 1)[:, None, :] * net.get_parameter(name).detach()).flatten(0, 1)  # rows and outputs, units
        torch.testing.assert_close(found[name], z.T @ z / z.sum(1).square().sum() / len(seen))
    assert torch.isfinite(secateur.criteria()[criterion]().score(stream, evidence)).all()


class Places(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.biased, self.normed, self.bare = (nn.Conv2d(6, 4, 3, bias=b) for b in (True, False, False))
        self.norm, self.last = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.first(x).relu()
        return self.biased(x), self.norm(self.normed(x)), self.last(self.bare(x).relu())


def test_an_intercept_has_a_place_in_a_bias_or_in_the_mean_of_the_norm_right_behind():
    graph = secateur.trace(fill(Places()).eval(), images(2, 1, 8, 8))
    evidence = collect(graph, {"inputs_gram"}, batches=[(images(2, 1, 8, 8), None)])
    free = {x.name: x.free for x in inputs_of(graph["first"], evidence)}
    assert free == {"biased.weight": True, "normed.weight": True, "bare.weight": False}


def test_evidence_stored_before_places_were_told_is_refused():
    graph = secateur.trace(fill(Places()).eval(), images(2, 1, 8, 8))
    evidence = collect(graph, {"inputs_gram"}, batches=[(images(2, 1, 8, 8), None)])
    del evidence.values["inputs_gram"]["biased.weight"]["free"]
    with pytest.raises(NeedsData, match="collect it anew"):
        inputs_of(graph["first"], evidence)


def two_networks(points):
    """A network, the same with other weights and half of its first channels, and evidence of the second."""
    net, x = fill(Places()).double().eval(), images(6, 1, 9, 9).double()
    dense = secateur.trace(net, x[:2])
    small = secateur.cut(dense, secateur.Plan.keeping(dense, {"first": [0, 2, 5]})).model.eval()
    with torch.no_grad():
        small.bare.weight.mul_(1.3)
    graph = secateur.trace(small, x[:2])
    batches = [(x[:4], None), (x[4:], None)]
    held = collect(dense, {"inputs_gram"}, batches=batches, sampling=Towards(points=points)).values["inputs_gram"]
    aims = Towards(points=points, targets={name: fields["given"] for name, fields in held.items()})
    return net, small, x, graph, collect(graph, {"inputs_gram"}, batches=batches, sampling=aims)


@pytest.mark.parametrize("intercept", [False, True])
def test_towards_another_network_by_explicit_rows(intercept):
    net, small, x, graph, evidence = two_networks(10**6)
    found = problem(graph["first"], evidence, intercept=intercept)
    error = 0.0
    for number, name in enumerate(("biased", "normed", "bare")):
        layer, old = small.get_submodule(name), net.get_submodule(name)
        with torch.no_grad():
            y = F.conv2d(net.first(x).relu(), old.weight).movedim(1, -1).reshape(-1, 4)
            h = small.first(x).relu()
            each = [F.conv2d(h[:, [k]], layer.weight[:, [k]]).movedim(1, -1).reshape(-1, 4) for k in range(3)]
        if intercept and name != "bare":
            y, each = y - y.mean(0), [z - z.mean(0) for z in each]
        z, lacks = torch.stack(each), y - sum(each)
        energy = 3 * y.square().sum()
        torch.testing.assert_close(found.between[number], torch.einsum("irc,jrc->ij", z, z) / energy)
        torch.testing.assert_close(found.lacks[number], torch.einsum("irc,rc->i", z, lacks) / energy)
        error += float(lacks.square().sum() / energy)
    assert found.error == pytest.approx(error)


def test_the_points_are_the_same_in_both_networks():
    net, x = fill(Places()).double().eval(), images(6, 1, 9, 9).double()
    graph = secateur.trace(net, x[:2])
    sums = []
    for targets in (None, 1):
        options = Towards(points=3, targets=targets and {n: f["given"] for n, f in sums[0].items()})
        sums.append(collect(graph, {"inputs_gram"}, batches=[(x, None)], sampling=options).values["inputs_gram"])
    for name, fields in sums[1].items():
        assert len(sums[0][name]["given"]) == fields["count"] == 18
        flat = net.get_parameter(name).detach().flatten(1)
        torch.testing.assert_close(fields["cross"], fields["gram"] @ flat.T)


def test_more_rows_than_targets_are_refused():
    net, x = fill(Places()).eval(), images(6, 1, 9, 9)
    graph = secateur.trace(net, x[:2])
    held = collect(graph, {"inputs_gram"}, batches=[(x[:4], None)], sampling=Towards()).values["inputs_gram"]
    aims = Towards(targets={name: fields["given"] for name, fields in held.items()})
    with pytest.raises(BadModel, match=r"reads more rows than the 40 .*frozen="):
        collect(graph, {"inputs_gram"}, batches=[(x, None)], sampling=aims)
