"""What may be merged: all else is refused by name, before anything changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, difference, run, tensors_of
from nets import ALL, Head, conv_bn, fill, fresh, graph, images
from secateur.errors import SurgeryError
from secateur.groups.plan import Keep, Merge, Plan
from secateur.surgery.cut import copied, edits
from secateur.surgery.merge import merged
from secateur.surgery.mergeable import mergeable
from twins import merging, twin

X, TOKENS = images(2, 1, 8, 8), images(2, 5, 6)


class Normed(nn.Module):
    """A stream that a layer norm reads."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + self.down(F.gelu(self.up(self.norm(x)))))


class Ends(nn.Module):
    """Two layers, and anything between them."""

    def __init__(self, between, first=None, second=None):
        super().__init__()
        self.one, self.two = first or nn.Linear(6, 8), second or nn.Linear(8, 3)
        self.between = between

    def forward(self, x):
        return self.two(self.between(self.one(x)))


class Products(nn.Module):
    """What a layer gives is multiplied with itself and summed over, beside being read."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.one(x)
        return (x @ x.transpose(1, 2)).tanh() @ self.two(x)


class Language(nn.Module):
    """A table that is read the other way round at the end."""

    def __init__(self):
        super().__init__()
        self.table, self.mid = nn.Embedding(11, 8), nn.Linear(8, 8)

    def forward(self, tokens):
        return F.linear(torch.relu(self.table(tokens)) + self.mid(self.table(tokens)), self.table.weight)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.lstm, self.head = nn.Linear(6, 7), nn.LSTM(7, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.lstm(self.one(x).relu())[0])


class Attention(nn.Module):
    """Two heads whose queries and keys are normalised each by itself, as in recent language models."""

    def __init__(self):
        super().__init__()
        self.heads, self.norm = 2, nn.LayerNorm(4)
        self.q, self.k, self.v, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.norm(q), self.norm(k), v)
        return self.out(y.transpose(1, 2).flatten(2))


CASES = {
    "layer norm": (Normed, TOKENS, "embed", "layer_norm.default at 'norm' normalises, sums or ranks over them"),
    "softmax": (lambda: Ends(nn.Softmax(-1)), TOKENS, "one", "softmax.default at 'between' normalises"),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 1)), X, "0", "norm"),
    "products": (Products, TOKENS, "one", "at '' sums over them with something that is no weight"),
    "read by a computed weight": (
        lambda: Ends(nn.ReLU(), second=nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))),
        TOKENS,
        "one",
        "at 'two' sums over them with something that is no weight of its own",
    ),
    "written by a computed weight": (
        lambda: Ends(nn.ReLU(), first=nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))),
        TOKENS,
        "one",
        "'one' writes them with a weight computed from others",
    ),
    "tied": (Language, torch.tensor([[1, 4, 0], [3, 3, 10]]), "table", "table.weight is read and written along"),
    "recurrent": (Recurrent, TOKENS, "one", "lstm at 'lstm' reads them out of sight"),
    "hidden state": (Recurrent, TOKENS, "lstm", "lstm"),
}


@pytest.mark.parametrize("case", CASES)
def test_groups_that_cannot_be_merged(case):
    build, example, name, reason = CASES[case]
    g = secateur.trace(fill(build()), example)
    assert reason in mergeable(g, g.groups).refused[name]
    with assert_unchanged(g.model), pytest.raises(SurgeryError, match=f"units of group '{name}' cannot be merged: "):
        secateur.cut(g, merging(g, {name: (1, 0)}))


@pytest.mark.parametrize("case", ["layer norm", "softmax", "group norm", "products"])
def test_there_is_a_reason(case):
    """Even twins do not merge there: what is left of the sum is another number."""
    build, example, name, _ = CASES[case]
    dense = secateur.trace(fill(build()), example)
    pairs = {name: (1, 0)}
    g = twin(dense, pairs)
    plan = merging(g, pairs)
    small = copied(merged(g, plan).model, edits(g, plan))
    assert difference(run(g.model, g.example), run(small, g.example)) > 1e-3


def test_the_groups_beside_them_can_be():
    g = secateur.trace(fill(Normed()), TOKENS)
    may = mergeable(g, g.groups)
    assert set(may.refused) == {"embed"}
    assert may.kin["up"].tolist() == [0] * 12


def test_whole_groups_of_a_grouped_layer_are_refused():
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(6, 6), nn.ReLU(), conv_bn(6, 5), Head(5))
    g = secateur.trace(fill(net), X)
    assert g["0"].kind == "block"
    assert mergeable(g, g.groups).refused == {"0": "each is a whole group of a grouped layer"}


def test_a_norm_within_each_unit_is_no_obstacle():
    g = secateur.trace(fill(Attention()), TOKENS)
    assert [x.kind for x in g.groups] == ["head"]
    assert mergeable(g, g.groups).kin["q"].tolist() == [0, 0]
    alike = twin(g, {"q": (0, 1)})
    small = secateur.cut(alike, merging(alike, {"q": (0, 1)})).model
    assert difference(run(alike.model, TOKENS), run(small, TOKENS)) < 1e-6


def test_depthwise_kernels_must_agree():
    g = graph("depthwise")
    with (
        assert_unchanged(g.model),
        pytest.raises(
            SurgeryError,
            match=r"unit 4 of group 'stem\.0' cannot be merged into unit 1: they differ in deep\.0\.weight, which",
        ),
    ):
        secateur.cut(g, merging(g, {"stem.0": (4, 1)}))
    alike = twin(g, {"stem.0": (4, 1)})
    assert mergeable(alike, [alike["stem.0"]]).kin["stem.0"].tolist() == [0, 1, 2, 3, 1, 5]
    secateur.cut(alike, merging(alike, {"stem.0": (4, 1)}))


@pytest.mark.parametrize("tensor", ["between.weight", "between.bias", "between.running_mean", "between.running_var"])
def test_a_norm_that_is_not_folded_must_agree(tensor):
    class Late(Ends):
        def forward(self, x):
            return self.two(self.between(self.one(x).relu()))

    dense = secateur.trace(fill(Late(nn.BatchNorm1d(8))), images(4, 6))
    g = twin(dense, {"one": (6, 2)})
    secateur.cut(g, merging(g, {"one": (6, 2)}))
    tensors_of(g.model)[tensor].detach()[6] += 0.1
    with pytest.raises(SurgeryError, match=f"they differ in {tensor}"):
        secateur.cut(g, merging(g, {"one": (6, 2)}))


def test_a_norm_right_behind_needs_not_agree():
    """Its parameters are part of what a unit computes."""
    g = graph("plain")
    assert set(mergeable(g, g.groups).kin["one.0"].tolist()) == {0}
    assert mergeable(g, g.groups).between == {"one.0": (), "two.0": ()}


def test_a_factor_needs_nothing_between():
    g = twin(graph("depthwise"), {"stem.0": (4, 1)})
    with assert_unchanged(g.model), pytest.raises(SurgeryError, match=r"by the factor 0\.5.*deep.*give the factor 1"):
        secateur.cut(g, merging(g, {"stem.0": (4, 1)}, 0.5))


class Two(nn.Module):
    """Some channels pass one function and some another: no parameter says so."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3), 3, 5

    def forward(self, x):
        a, b = self.one(x).split([self.first, self.second], -1)
        return self.two(torch.cat([a.relu(), b.tanh()], -1))


def test_units_that_pass_another_function_are_refused():
    g = secateur.trace(fill(Two()), TOKENS)
    assert mergeable(g, g.groups).kin["one"].tolist() == [0, 0, 0, 3, 3, 3, 3, 3]
    with pytest.raises(SurgeryError, match="given the same weights, the model would still give"):
        secateur.cut(g, merging(g, {"one": (1, 4)}))
    secateur.cut(g, merging(g, {"one": (1, 2)}))


def test_a_number_that_differs_unit_by_unit():
    class Offset(Ends):
        def forward(self, x):
            return self.two((self.one(x) + self.between).relu())

    net = fill(Offset(None))
    net.between = nn.Parameter(torch.tensor([0.0, 1, 0, 1, 2, 2, 0, 3]))
    g = secateur.trace(net, TOKENS)
    assert mergeable(g, g.groups).kin["one"].tolist() == [0, 1, 0, 1, 4, 4, 0, 7]


def test_whole_blocks_are_no_units_to_merge():
    g = secateur.trace(fresh("resnet20"), ALL["resnet20"].example, kinds=("depth",))
    assert g.groups
    assert set(mergeable(g, g.groups).refused.values()) == {"no weight reads them"}


def test_a_model_without_weights():
    net = nn.Sequential(nn.Linear(6, 8, device="meta"), nn.ReLU(), nn.Linear(8, 3, device="meta"))
    g = secateur.trace(net, torch.empty(2, 6, device="meta"))
    plan = Plan(edits=(Keep(group="0", units=tuple(range(7))), Merge(group="0", units=(7,), into=(0,))))
    with pytest.raises(SurgeryError, match="meta device"):
        secateur.cut(g, plan, verify="off")


@pytest.mark.parametrize("name", ["mobilenet_v2", "named", "twice", "grouped"])
def test_it_touches_nothing_and_says_the_same_again(name):
    g = graph(name)
    with assert_unchanged(g.model):
        a, b = (mergeable(g, g.groups) for _ in range(2))
    assert {n: k.tolist() for n, k in a.kin.items()} == {n: k.tolist() for n, k in b.kin.items()}
