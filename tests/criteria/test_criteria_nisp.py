"""Importance propagated from the classifier's inputs: what they are worth, options, what has no scores."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, graph, images
from secateur.criteria.nisp import NISP
from secateur.errors import BadModel, BadOption, NeedsData
from secateur.evidence.collect import collect
from secateur.evidence.inf_fs import inf_fs
from secateur.evidence.surrogate import propagate


def mlp():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    return fill(net).double().eval()


def evidence(g, x, size=3):
    return collect(g, {"final_responses"}, batches=[(x[i : i + size], None) for i in range(0, len(x), size)])


def absolute(parameter):
    return parameter.detach().abs()


def test_final_features_have_their_mean_times_the_norm_of_their_weights():
    net, x = mlp(), images(10, 3).double()
    g = secateur.trace(net, x)
    found = evidence(g, x)
    with torch.no_grad():
        features = net[:5](x).abs().mean(0)
    s = features * net[5].weight.detach().norm(dim=0)
    torch.testing.assert_close(found.of("final_responses", "5.weight")["responses"], s)
    torch.testing.assert_close(NISP().score(g["2"], found), s)
    torch.testing.assert_close(NISP().score(g["0"], found), absolute(net[2].weight).T @ s)
    scale = absolute(net[3].weight) / (net[3].running_var + net[3].eps).sqrt()
    torch.testing.assert_close(NISP("scaled").score(g["0"], found), absolute(net[2].weight).T @ (scale * s))


def test_a_classifier_that_is_a_convolution():
    net = fill(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 2))).double().eval()
    x = images(5, 1, 6, 6).double()
    found = evidence(secateur.trace(net, x), x)
    with torch.no_grad():
        features = net[:2](x).abs().mean((0, 2, 3))
    s = features * net[2].weight.detach().movedim(1, 0).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.of("final_responses", "2.weight")["responses"], s)
    torch.testing.assert_close(found.of("final_responses", "0")["identity"], 16 * s)  # at each of 4 x 4 positions


def test_final_features_that_must_stay_are_seen_too():
    """What the last layer reads is frozen, and yet what is before it has scores."""
    net, x = mlp(), images(10, 3).double()
    whole, free = secateur.trace(net, x), secateur.trace(net, x, frozen="2")
    assert [g.name for g in free.groups] == ["0"]
    expected = NISP().score(whole["0"], evidence(whole, x))
    torch.testing.assert_close(NISP().score(free["0"], evidence(free, x)), expected)


def test_of_a_layer_that_runs_twice_the_last_time_counts():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.again = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            self.seen = self.again(self.one(x).relu()).relu()
            return self.again(self.seen)

    net, x = fill(Again()).double().eval(), images(10, 4).double()
    found = evidence(secateur.trace(net, x, frozen="again"), x)
    with torch.no_grad():
        net(x)
    s = net.seen.abs().mean(0) * net.again.weight.detach().norm(dim=0)
    torch.testing.assert_close(found.of("final_responses", "again.weight")["responses"], s)


def test_any_other_scores_can_be_carried_back():
    net, x = mlp(), images(10, 3).double()
    g = secateur.trace(net, x)
    s = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).double()
    scores = propagate(g, s)
    torch.testing.assert_close(scores["0"], absolute(net[2].weight)[2])
    plan = secateur.allocate(g, scores, secateur.Budget(params=0.7))
    assert 2 in plan.kept["2"]


@pytest.mark.parametrize("size", [1, 4, 10])
def test_the_cut_into_batches_changes_nothing(size):
    net, x = mlp(), images(10, 3).double()
    g = secateur.trace(net, x)
    torch.testing.assert_close(NISP().score(g["0"], evidence(g, x, size)), NISP().score(g["0"], evidence(g, x)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attend, self.head = nn.Linear(4, 8), nn.MultiheadAttention(8, 2, batch_first=True), None
        self.up, self.down, self.head = nn.Linear(8, 6), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


def test_infinite_feature_selection_ranks_the_features_where_it_is_asked_for():
    net, x = mlp(), images(10, 3).double()
    g = secateur.trace(net, x)
    chosen = NISP(final="inf-fs")
    with torch.no_grad():
        s = inf_fs(net[:5](x))
    scores = secateur.score(g, chosen, batches=[(x[:4], None), (x[4:], None)])
    other = secateur.score(g, "nisp", batches=[(x, None)])
    torch.testing.assert_close(scores["2"], s / s.mean())
    carried = absolute(net[2].weight).T @ s
    torch.testing.assert_close(scores["0"], carried / carried.mean())
    assert not torch.allclose(scores["2"], other["2"])
    assert NISP().needs == {"final_responses"}
    with pytest.raises(NeedsData, match="no inf_fs_responses"):
        chosen.score(g["0"], evidence(g, x))
    with pytest.raises(BadOption, match=r"final='inffs': give 'mean' or 'inf-fs'"):
        NISP(final="inffs")


def test_attention_is_refused_by_name():
    net, x = fill(Attention()).eval(), images(2, 5, 4)
    g = secateur.trace(net, x)
    with pytest.raises(BadModel, match=r"no linear surrogate .*scaled_dot_product_attention is not linear"):
        secateur.score(g, "nisp", batches=[(x, None)])
    squeeze = graph("squeeze")
    with pytest.raises(BadModel, match=r"of 'stem.0': no linear surrogate .* mul of two activations"):
        secateur.score(squeeze, "nisp", batches=[(squeeze.example, None)])


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.first, self.last = (nn.Linear(i, o) for i, o in ((4, 5), (4, 6), (5, 2), (6, 2)))

    def forward(self, x):
        return self.first(self.left(x).relu()), self.last(self.right(x).relu())


def test_what_does_not_lead_to_the_last_layer_is_refused():
    net, x = fill(TwoHeads()).eval(), images(3, 4)
    g = secateur.trace(net, x)
    found = evidence(g, x)
    assert NISP().score(g["right"], found).shape == (6,)
    with pytest.raises(BadModel, match=r"of 'left': the last layer, 'last', reads nothing that comes from it"):
        NISP().score(g["left"], found)


def test_a_last_weight_that_is_computed_is_refused():
    net = fill(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))))
    x = images(3, 3)
    g = secateur.trace(net.eval(), x)
    with pytest.raises(BadModel, match="final_responses of '0'"):
        secateur.score(g, "nisp", batches=[(x, None)])


def test_what_overflows_is_refused():
    net = fill(nn.Sequential(*(m for _ in range(6) for m in (nn.Linear(4, 4), nn.ReLU())), nn.Linear(4, 2))).double()
    with torch.no_grad():
        for layer in net[:12:2]:
            layer.weight.abs_().mul_(1e70)
            layer.bias.zero_()
    x = torch.full((3, 4), 1e-300, dtype=torch.float64)
    g = secateur.trace(net.eval(), x)
    found = evidence(g, x)
    with pytest.raises(BadModel, match=r"of '0': what is carried back to it overflows float64"):
        NISP().score(g["0"], found)


def test_dead_tied_and_single_units():
    net, x = mlp(), images(10, 3).double()
    dead = copy.deepcopy(net)
    dead[3].bias.data.fill_(-1e9)
    g = secateur.trace(dead, x)
    scores = secateur.score(g, "nisp", batches=[(x, None)])
    assert torch.equal(scores["2"], torch.zeros(5).double())
    assert torch.equal(scores["0"], torch.zeros(4).double())
    one = secateur.trace(fill(nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2))).double(), x)
    assert secateur.score(one, "nisp", batches=[(x, None)])["0"].tolist() == [1.0]


def test_no_data_and_broken_data_are_refused():
    g = graph("plain")
    for batches, why in ((None, "give batches"), ([], "are empty"), ([(g.example * float("nan"), None)], "of NaN")):
        with pytest.raises(NeedsData, match=why):
            secateur.score(g, "nisp", batches=batches)


@pytest.mark.parametrize("norms", ["identity", "scaled"])
def test_it_prunes_a_residual_network(norms):
    g = graph("digits-resnet")
    data = [(images(8, *g.example.shape[1:]), None)]
    budget = secateur.Budget(macs=0.5)
    pruned = secateur.prune(g.model, g.example, budget=budget, criterion=NISP(norms), batches=data)
    assert pruned.after.macs <= 0.5 * pruned.before.macs
