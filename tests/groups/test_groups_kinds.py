"""Kinds of unit: what each is called, and that only those asked for may be cut."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import random_plan
from nets import ALL, Head, conv_bn, fill, images
from secateur.errors import PlanError, UnknownName
from secateur.graph.record import BLOCK, HEAD, IN, OUT, STREAM
from secateur.groups.group import WIDTHS, kind_name


class Block(nn.Module):
    """Attention and a perceptron, each added to the stream: 8 wide, 4 heads (2 of keys) of 2."""

    def __init__(self):
        super().__init__()
        self.heads, self.size = 4, 2
        self.one, self.two = nn.LayerNorm(8), nn.LayerNorm(8)
        self.q, self.k, self.v, self.o = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def attend(self, x):
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, -1, self.size).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2))

    def forward(self, x):
        x = x + self.attend(self.one(x))
        return x + self.down(F.gelu(self.up(self.two(x))))


class Former(nn.Module):
    """Tokens, two blocks, a head."""

    def __init__(self):
        super().__init__()
        self.table, self.blocks, self.head = nn.Embedding(11, 8), nn.ModuleList([Block(), Block()]), nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Groups(nn.Module):
    """A grouped convolution with one channel in, several out of each group: whole groups go."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.last, self.head = nn.Conv2d(1, 6, 3), nn.GroupNorm(6, 6), conv_bn(6, 5), Head(5)

    def forward(self, x):
        return self.head(self.last(F.relu(self.norm(self.stem(x)))))


class Windowed(nn.Module):
    """Attention within windows, which lie behind the heads, as in Hiera; by one function, or written out."""

    def __init__(self, whole):
        super().__init__()
        self.whole, self.heads, self.size, self.windows, self.width = whole, 4, 2, 2, 8
        self.qkv, self.proj, self.head = nn.Linear(6, 24), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x):
        split = self.qkv(x).reshape(x.shape[0], -1, self.windows, 3, self.heads, self.size)
        q, k, v = split.permute(3, 0, 4, 2, 1, 5).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v) if self.whole else (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.head(self.proj(y.transpose(1, 3).reshape(x.shape[0], -1, self.width)).relu())


TOKENS = torch.tensor([[1, 4, 0, 9], [3, 3, 10, 2]])


def former(**options):
    return secateur.trace(fill(Former()), TOKENS, **options)


def kinds(graph):
    return {g.name: (g.kind, g.size) for g in graph.groups}


def test_what_a_unit_of_a_transformer_is():
    found = kinds(former())
    assert found == {
        "table": ("stream", 8),
        "blocks.0.q": ("head", 2),
        "blocks.0.up": ("neuron", 12),
        "blocks.1.q": ("head", 2),
        "blocks.1.up": ("neuron", 12),
    }


@pytest.mark.parametrize("whole", [True, False], ids=["one function", "written out"])
def test_heads_with_windows_behind_them_are_heads(whole):
    found = kinds(secateur.trace(fill(Windowed(whole)), images(2, 6, 6)))
    assert found == {"qkv": ("head", 4), "proj": ("neuron", 5)}


def test_a_head_holds_its_queries_keys_values_and_what_reads_it():
    held = {(m.tensor, m.axis): m.index.tolist() for m in former()["blocks.0.q"].members}
    assert held["blocks.0.q.weight", 0] == held["blocks.0.o.weight", 1] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert held["blocks.0.k.weight", 0] == held["blocks.0.v.bias", 0] == [[0, 1], [2, 3]]


def test_channels_are_channels_and_neurons_neurons():
    for name, kind in (("plain", "channel"), ("padded", "channel"), ("mlp", "neuron"), ("resnet20", "channel")):
        graph = secateur.trace(fill(ALL[name].build()), ALL[name].example)
        assert {g.kind for g in graph.groups} == {kind}


@pytest.mark.parametrize(
    ("bits", "kind"),
    [(0, "neuron"), (OUT | IN, "neuron"), (BLOCK, "block"), (HEAD, "head"), (HEAD | BLOCK, "head"), (STREAM, "neuron")],
)
def test_the_kind_of_roles_that_no_layer_writes(bits, kind):
    assert kind_name(bits, ()) == kind


@pytest.mark.parametrize("kind", ["head", "neuron", "stream"])
def test_only_kinds_that_are_asked_for_are_cut(kind):
    everything, graph = former(), former(kinds=kind)
    assert kinds(graph) == {n: (k, s) for n, (k, s) in kinds(everything).items() if k == kind}
    for group in everything.groups:
        if group.kind != kind:
            with pytest.raises(PlanError, match=f"is frozen: its units are {group.kind}s, not in kinds="):
                graph[group.name]
    pruned = secateur.cut(graph, random_plan(graph, keep=0.5))
    assert pruned.check.max_error < 1e-9
    assert set(pruned.plan.kept) == set(kinds(graph))


def test_several_kinds():
    assert {k for k, _ in kinds(former(kinds=("head", "neuron"))).values()} == {"head", "neuron"}
    assert kinds(former(kinds=WIDTHS)) == kinds(former())
    assert "not in kinds=('head', 'neuron')" in str(former(kinds=["head", "neuron"]).coverage())


def test_no_kind_leaves_no_group():
    graph = former(kinds=())
    assert graph.groups == ()
    assert graph.coverage().units == 0


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(UnknownName, match=r"no kind 'heads'.*Did you mean 'head'"):
        former(kinds=["heads"])


def test_kinds_and_frozen_names_hold_together():
    graph = former(kinds=("head",), frozen=["blocks.0"])
    assert set(kinds(graph)) == {"blocks.1.q"}
    reasons = {f.name: f.reason for f in graph.frozen}
    assert reasons["blocks.0.q"] == "asked for by frozen='blocks.0'"
    assert reasons["blocks.1.up"].startswith("its units are neurons")


def test_prune_takes_kinds():
    pruned = secateur.prune(fill(Former()), TOKENS, budget=secateur.Budget(macs=0.9), kinds=("neuron",))
    assert {b.q.out_features for b in pruned.model.blocks} == {8}
    assert set(pruned.plan.kept) <= {"blocks.0.up", "blocks.1.up"}


def test_prune_in_place_takes_kinds():
    model = fill(Former())
    secateur.prune_(model, TOKENS, budget=secateur.Budget(macs=0.9), kinds=("neuron",))
    assert {b.q.out_features for b in model.blocks} == {8}
    assert min(b.up.out_features for b in model.blocks) < 12


@pytest.mark.parametrize("seed", range(4))
def test_all_kinds_at_once_are_exact(seed):
    graph = former()
    assert secateur.cut(graph, random_plan(graph, seed)).check.max_error < 1e-9


def test_a_group_says_its_kind():
    assert repr(former()["blocks.0.q"]).startswith("Group('blocks.0.q', 2 heads, ")


def test_a_norm_of_as_many_groups_as_channels_goes_channel_by_channel():
    graph = secateur.trace(fill(Groups()), images(2, 1, 8, 8))
    assert kinds(graph)["stem"][1] == 6
    pruned = secateur.cut(graph, random_plan(graph, keep=0.5))
    assert (pruned.model.norm.num_groups, pruned.model.norm.num_channels) == (3, 3)
