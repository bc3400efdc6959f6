"""Scopes: which groups of real networks are of one structure, and scores over the mean of a scope."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import ALL, conv_bn, fresh, graph
from secateur.allocation.base import ALLOCATORS
from secateur.allocation.ranked import Ranked
from secateur.allocation.scopes import normalised, scopes
from secateur.errors import BadBudget, BadOption
from secateur.testing.allocator import random_scores


def sets(g):
    """The names of each scope."""
    found = {}
    for group, scope in zip(g.groups, scopes(g).tolist(), strict=True):
        found.setdefault(scope, []).append(group.name)
    return list(found.values())


def resnet50():
    import torchvision

    with torch.device("meta"):
        return secateur.trace(torchvision.models.resnet50(weights=None).eval(), torch.zeros(1, 3, 64, 64))


def test_bottlenecks_of_all_stages_are_alike_and_their_streams_are_not():
    g = resnet50()
    stages = [(1, 3), (2, 4), (3, 6), (4, 3)]
    blocks = [f"layer{s}.{b}" for s, count in stages for b in range(count)]
    found = sets(g)
    assert ["conv1"] in found
    assert [f"{b}.conv1" for b in blocks] in found
    assert [f"{b}.conv2" for b in blocks] in found
    streams = [f"layer{s}.0.conv3" for s, _ in stages]
    assert all([s] in found for s in streams[:3])  # more blocks, more members
    assert sum(map(len, found)) == len(g.groups)


def test_inverted_residuals_are_alike_however_wide_their_depthwise_layers():
    with torch.device("meta"):
        import torchvision

        g = secateur.trace(torchvision.models.mobilenet_v2(weights=None).eval(), torch.zeros(1, 3, 64, 64))
    inner = [f"features.{i}.conv.0.0" for i in range(2, 18)]
    assert inner in sets(g)
    assert len({g[name].size for name in inner}) > 3


def test_heads_hidden_units_and_stream_of_a_llama_are_three_scopes():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=3, use_cache=False, **sizes)).eval()
    g = secateur.trace(model, torch.zeros(1, 8, dtype=torch.long))
    kinds = [{g[name].kind for name in names} for names in sets(g)]
    assert sorted(map(sorted, kinds)) == [["head"], ["neuron"], ["stream"]]
    assert sorted(map(len, sets(g))) == [1, 3, 3]


class Two(nn.Module):
    """Equal layers under other names, in another order, and one that differs."""

    def __init__(self, last):
        super().__init__()
        self.z, self.a, self.m, self.last = conv_bn(1, 4), conv_bn(4, 8), conv_bn(8, 6), last

    def forward(self, x):
        return self.last(self.m(self.a(self.z(x)))).mean((2, 3))


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (nn.Conv2d(6, 2, 3), [["z.0", "a.0", "m.0"]]),
        (nn.Conv2d(6, 2, 1), [["z.0", "a.0"], ["m.0"]]),
        (nn.ConvTranspose2d(6, 2, 3), [["z.0", "a.0"], ["m.0"]]),
    ],
)
def test_structure_counts_and_names_depth_and_widths_do_not(last, expected):
    assert sets(secateur.trace(Two(last), torch.zeros(1, 1, 8, 8))) == expected


def test_biases_count():
    layers = (nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 7), nn.ReLU())
    assert sets(secateur.trace(nn.Sequential(*layers, nn.Linear(7, 2)), torch.zeros(1, 4))) == [["0", "4"], ["2"]]


def test_scores_over_means():
    g = secateur.trace(Two(nn.Conv2d(6, 2, 1)), torch.zeros(1, 1, 8, 8))
    scores = {n: x * f for (n, x), f in zip(random_scores(g).items(), (1.0, 10.0, 100.0), strict=True)}
    assert normalised(g, scores, "none") is scores
    by_group, by_scope = (normalised(g, scores, by) for by in ("group", "scope"))
    for name, x in scores.items():
        assert torch.allclose(by_group[name], x / x.mean())
    together = torch.cat([scores["z.0"], scores["a.0"]]).mean()
    assert torch.allclose(by_scope["a.0"], scores["a.0"] / together)
    assert torch.allclose(by_scope["m.0"], scores["m.0"] / scores["m.0"].mean())
    below = {name: -x for name, x in scores.items()}
    assert all(torch.equal(x, below[n]) for n, x in normalised(g, below, "group").items())


def test_ranked_by_normalised_scores_is_ranked_on_scores_divided_beforehand():
    g = graph("digits-resnet")
    scores = {n: x * (i + 1) for i, (n, x) in enumerate(random_scores(g).items())}
    budget = secateur.Budget(macs=0.5)
    plain = secateur.allocate(g, scores, budget)
    for by in ("group", "scope"):
        ours = secateur.allocate(g, scores, budget, allocator=secateur.allocators()["ranked"](normalise=by))
        assert ours == secateur.allocate(g, normalised(g, scores, by), budget)
        assert ours != plain


@pytest.mark.parametrize("name", ["plain", "depthwise", "squeeze", "digits-resnet", "resnet20"])
def test_scopes_are_those_of_a_twin_with_other_weights(name):
    twin = secateur.trace(fresh(name, seed=5), ALL[name].example)
    assert sets(twin) == sets(graph(name))


MEASURES = {
    "mean": lambda x, all_: x / all_.mean(),
    "sum": lambda x, all_: x / all_.sum(),
    "max": lambda x, all_: x / all_.max(),
    "min-max": lambda x, all_: (x - all_.min()) / (all_.max() - all_.min()),
    "z-score": lambda x, all_: (x - all_.mean()) / np.sqrt(((all_ - all_.mean()) ** 2).mean()),
}


@pytest.mark.parametrize("by", MEASURES)
def test_every_normaliser_of_a_group_and_of_a_scope_by_hand(by):
    g = secateur.trace(Two(nn.Conv2d(6, 2, 1)), torch.zeros(1, 1, 8, 8))
    scores = {n: x * f for (n, x), f in zip(random_scores(g).items(), (1.0, 10.0, 100.0), strict=True)}
    for name, x in scores.items():
        scope = torch.cat([scores["z.0"], scores["a.0"]]) if name != "m.0" else x
        for over, everything in (("group", x), ("scope", scope)):
            expected = MEASURES[by](x.numpy(), everything.numpy())
            np.testing.assert_allclose(normalised(g, scores, over, by)[name], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("by", MEASURES)
def test_a_positive_factor_of_each_group_changes_no_ranking(by):
    """`score` divides by the mean where scores are not on one scale: no normaliser of a group sees it."""
    g = graph("digits-resnet")
    scores, budget = random_scores(g), secateur.Budget(macs=0.5)
    scaled = {n: x * 2.0**i for i, (n, x) in enumerate(scores.items())}
    ranked = Ranked(normalise="group", by=by)
    assert secateur.allocate(g, scaled, budget, allocator=ranked) == secateur.allocate(
        g, scores, budget, allocator=ranked
    )
    assert secateur.allocate(g, scaled, budget) != secateur.allocate(g, scores, budget)


@pytest.mark.parametrize("by", MEASURES)
@pytest.mark.parametrize(
    "x",
    [
        *([0.1] * 7, [0.0] * 7, [-3.0] * 7, [-1.0, -2.0, -3.0, -4.0, 0, 0, 0]),
        *([1e300, -1e300, 0, 1, 2, 3, 1.5e308], [1.7e308] * 6 + [1.6e308]),
        *([1e-320, 0, 0, 0, 0, 0, 3e-320], [1e-200, 2e-200, 0, 0, 0, 0, 0]),
    ],
)
def test_scores_stay_finite_and_in_order(by, x):
    g = secateur.trace(nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2)), torch.zeros(1, 4))
    before = torch.tensor(x, dtype=torch.float64)
    after = normalised(g, {"0": before}, "group", by)["0"]
    assert torch.isfinite(after).all()
    rising = after[before.argsort(stable=True)]
    assert (rising[1:] >= rising[:-1]).all()
    if len(set(x)) == 1 and by in ("min-max", "z-score"):
        assert after.tolist() == [{"min-max": 0.5, "z-score": 0.0}[by]] * 7


def test_ties_go_to_the_earlier_group_and_unit_whatever_the_normaliser():
    g = graph("digits-resnet")
    scores = {group.name: torch.arange(group.size, dtype=torch.float64) % 4 + 1 for group in g.groups}
    for by in MEASURES:
        plan = secateur.allocate(g, scores, allocator=Ranked(drop=1, normalise="group", by=by))
        most = max(group.size for group in g.groups)
        first = next(group for group in g.groups if by != "sum" or group.size == most)  # of more units less each
        assert [n for n, kept in plan.kept.items() if len(kept) < g[n].size] == [first.name]
        assert plan.kept[first.name].tolist() == list(range(1, first.size))


def test_normalisers_are_told_by_name():
    made = ALLOCATORS.configured("ranked", {"normalise": "scope", "by": "z-score"})
    assert made == Ranked(normalise="scope", by="z-score")
    with pytest.raises(BadOption, match="by='median'"):
        ALLOCATORS.configured("ranked", {"normalise": "scope", "by": "median"})
    with pytest.raises(BadOption, match="by='median': give 'mean', "):
        Ranked(normalise="group", by="median")
    with pytest.raises(BadOption, match="normalise='groups': give 'none', 'group' or 'scope'"):
        Ranked(normalise="groups")
    with pytest.raises(BadBudget, match=r"by='max' .* normalise='none'"):
        Ranked(by="max")
    with pytest.raises(BadBudget, match=r"by='z-score' .* per_macs=0.5"):
        Ranked(normalise="group", by="z-score", per_macs=0.5)
