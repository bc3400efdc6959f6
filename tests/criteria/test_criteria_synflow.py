"""Synaptic flow: conserved, never collapsing, without data; norms and biases passed by; refused where it stops."""

import copy
import itertools
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import assert_close
from held import assert_unchanged
from nets import HAND, fill, fresh, graph, images
from secateur.errors import BadModel, NeedsData
from secateur.evidence.collect import collect
from secateur.evidence.synflow import WeightSynFlow
from secateur.testing import check_criterion


def flows(model, example):
    """Weight -> |w| * dR/d|w|, and R, for a model of ReLUs without biases and norms."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.abs_()
    total = model(torch.ones_like(example).double()).sum()
    total.backward()
    return {n: (p * p.grad).detach() for n, p in model.named_parameters()}, total.detach()


def chain(*sizes, seed=0):
    """Linear layers and ReLUs, without biases."""
    pairs = itertools.pairwise(sizes)
    layers = [m for a, b in pairs for m in (nn.Linear(a, b, bias=False), nn.ReLU())][:-1]
    return fill(nn.Sequential(*layers), seed)


class Stream(nn.Module):
    """Two residual blocks, of convolutions without biases and norms."""

    def __init__(self, norm=False):
        super().__init__()
        bn = nn.BatchNorm2d if norm else lambda n: nn.Identity()
        conv = lambda a, b: nn.Conv2d(a, b, 3, padding=1, bias=norm)  # noqa: E731
        self.stem, self.n0 = conv(1, 5), bn(5)
        self.a, self.na, self.b, self.nb = conv(5, 4), bn(4), conv(4, 5), bn(5)
        self.c, self.nc, self.d, self.nd = conv(5, 3), bn(3), conv(3, 5), bn(5)
        self.head = nn.Linear(5, 2, bias=norm)

    def forward(self, x):
        x = F.relu(self.n0(self.stem(x)))
        x = F.relu(x + self.nb(self.b(F.relu(self.na(self.a(x))))))
        x = F.relu(x + self.nd(self.d(F.relu(self.nc(self.c(x))))))
        return self.head(x.mean((2, 3)))


SQUARE = torch.zeros(2, 1, 5, 5)


def test_every_layer_of_a_chain_holds_all_of_the_flow():
    model = chain(6, 8, 5, 7, 3)
    found, total = flows(model, torch.zeros(2, 6))
    for layer in found.values():
        assert_close(layer.sum(), total)
    for scores in secateur.score(secateur.trace(model, torch.zeros(2, 6)), "synflow").values():
        assert_close(scores.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_what_comes_into_a_unit_goes_out_of_it():
    """The score is both: the sum over the rows that write it, and over the columns that read it."""
    model = chain(6, 8, 5, 3)
    found, total = flows(model, torch.zeros(2, 6))
    scores = secateur.score(secateur.trace(model, torch.zeros(2, 6)), "synflow")
    for before, after in (("0", "2"), ("2", "4")):
        assert_close(scores[before], found[f"{before}.weight"].sum(1) / total)
        assert_close(scores[before], found[f"{after}.weight"].sum(0) / total)


def test_flow_is_conserved_in_a_residual_stream_of_several_writers_and_readers():
    model = fill(Stream())
    found, total = flows(model, SQUARE)
    scores = secateur.score(secateur.trace(model, SQUARE), "synflow")
    rows = {n: t.flatten(1).sum(1) / total for n, t in found.items()}
    columns = {n: t.transpose(0, 1).flatten(1).sum(1) / total for n, t in found.items()}
    assert_close(scores["a"], rows["a.weight"])
    assert_close(scores["a"], columns["b.weight"])
    assert_close(scores["stem"], rows["stem.weight"] + rows["b.weight"] + rows["d.weight"])
    assert_close(scores["stem"], columns["a.weight"] + columns["c.weight"] + columns["head.weight"])


def test_norms_and_biases_are_passed_by():
    normed, plain = fill(Stream(norm=True)), Stream()
    plain.load_state_dict(normed.state_dict(), strict=False)
    ours, theirs = (secateur.score(secateur.trace(m, SQUARE), "synflow") for m in (normed, plain))
    for name, scores in theirs.items():
        assert_close(ours[name], scores)


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(1, 6), nn.BatchNorm1d(6), nn.ReLU6(), nn.Hardtanh(0, 1)]
)
def test_whatever_norms_or_clips_is_passed_by(norm):
    plain = chain(4, 6, 3)
    other = nn.Sequential(plain[0], norm, plain[1], plain[2])
    for model in (plain, other):
        with torch.no_grad():
            model[0].weight.mul_(30)  # far above where ReLU6 clips
    ours, theirs = (secateur.score(secateur.trace(m, torch.zeros(2, 4)), "synflow")["0"] for m in (other, plain))
    assert_close(ours, theirs)


def test_no_data_is_asked_for_and_none_is_looked_at():
    g = graph("plain")

    def batches():
        raise AssertionError("data was looked at")
        yield

    alone = secateur.score(g, "synflow")
    for name, scores in secateur.score(g, "synflow", batches=batches()).items():
        assert torch.equal(scores, alone[name])
    with pytest.raises(NeedsData, match=r"^gradients must be collected"):
        collect(g, {"synflow", "gradients"})


def test_it_is_collected_beside_what_needs_data_and_stored(tmp_path):
    g = graph("plain")
    found = secateur.collect(g, ["synflow", "taylor"], batches=[(g.example, torch.tensor([1, 2]))])
    found.save(tmp_path / "e.safetensors")
    again = secateur.Evidence.load(tmp_path / "e.safetensors", g.model)
    ours, alone = secateur.score(g, "synflow", evidence=again), secateur.score(g, "synflow")
    assert all(torch.equal(ours[n], alone[n]) for n in alone)
    assert torch.isfinite(secateur.score(g, "taylor", evidence=again)["one.0"]).all()


def one_by_one(model, example, criterion):
    """Widths when a group would be emptied: the unit with the lowest score goes, then all are scored anew."""
    graph = secateur.trace(model, example)
    alive = {g.name: list(range(g.size)) for g in graph.groups}
    small = model
    while any(len(units) > 1 for units in alive.values()):
        scores = secateur.score(secateur.trace(small, example), criterion)
        name = min(scores, key=lambda n: scores[n].min())
        if len(alive[name]) == 1:
            return {n: len(units) for n, units in alive.items()}
        alive[name].pop(int(scores[name].argmin()))
        small = secateur.cut(graph, secateur.Plan.keeping(graph, alive), verify="off").model
    return None


class Raw(secateur.criteria()["l1"]):
    """L1 with no division by the mean of a layer, which is what magnitude ranked over a network is."""

    comparable = True


def test_step_by_step_no_layer_collapses():
    """A wide layer of small weights behind narrow ones: magnitude empties it, flow never empties any."""
    model = chain(4, 6, 24, 5, 3)
    with torch.no_grad():
        model[2].weight.mul_(0.05)
    assert one_by_one(model, torch.zeros(2, 4), "synflow") is None
    assert one_by_one(model, torch.zeros(2, 4), Raw()) is not None


@pytest.mark.parametrize("seed", range(3))
def test_the_last_unit_of_a_layer_has_the_highest_score(seed):
    """All flow passes it."""
    scores = secateur.score(secateur.trace(chain(5, 7, 1, 6, 3, seed=seed), torch.zeros(2, 5)), "synflow")
    assert_close(scores["2"], torch.ones(1, dtype=torch.float64))
    assert max(scores["0"].max(), scores["4"].max()) < 1


def test_products_that_overflow_single_precision():
    model = chain(*[64] * 30)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    assert not torch.isfinite(model(torch.ones(1, 64))).all()
    for scores in secateur.score(secateur.trace(model, torch.zeros(1, 64)), "synflow").values():
        assert_close(scores, torch.full((64,), 1 / 64, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(HAND))
def test_scores_are_parts_of_the_flow(name):
    model = fresh(name)
    g = secateur.trace(model, HAND[name].example)
    for scores in secateur.score(g, "synflow").values():
        assert torch.isfinite(scores).all()
        assert (scores >= 0).all()
        assert scores.sum() > 0


class ByHand(nn.Module):
    """A norm that no function of torch computes."""

    def forward(self, x):
        return x / x.square().mean(-1, keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (ByHand(), "flow through it is negative"),
        (nn.Sigmoid(), "no flow passes through it: it is dead, or an activation"),
    ],
)
def test_where_flow_turns_or_stops_it_is_refused_by_group(between, why):
    plain = chain(4, 6, 5, 3)
    with torch.no_grad():
        plain[2].weight.mul_(100)
    model = nn.Sequential(*plain[:3], between, *plain[3:])
    graph = secateur.trace(model, torch.zeros(2, 4))
    with pytest.raises(BadModel, match=rf"no synflow of '0': .*{why}.*use a criterion that needs none, or frozen='0'"):
        secateur.score(graph, "synflow")
    rest = secateur.score(secateur.trace(model, torch.zeros(2, 4), frozen="0"), "synflow")
    assert_close(rest["2"].sum(), torch.tensor(1.0, dtype=torch.float64))


def test_a_network_that_gives_zero_is_refused():
    model = chain(4, 6, 3)
    model[2].weight.data.zero_()
    with pytest.raises(BadModel, match="flow through the network is 0"):
        secateur.score(secateur.trace(model, torch.zeros(2, 4)), "synflow")


def test_a_forward_that_cannot_run_on_ones_is_refused():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.two(torch.relu(self.one(x)).float())

    with pytest.raises(BadModel, match="no synflow of 'one': the model does not run on ones in float64"):
        secateur.score(secateur.trace(fill(Single()), images(2, 4)), "synflow")


def test_copies_of_weights_are_given_back_as_their_flow_is_known(monkeypatch):
    """Of each weight either the copy in float64 is held, or the flow through it."""
    taken, run = {}, WeightSynFlow.run

    @contextmanager
    def watched(self, seen):
        with run(self, seen) as (total, held):
            taken.update(held)
            yield total, held

    monkeypatch.setattr(WeightSynFlow, "run", watched)
    model = chain(6, 8, 5, 3)
    graph = secateur.trace(model, torch.zeros(2, 6))
    with assert_unchanged(model):
        found = collect(graph, {"weight_synflow"}).values["weight_synflow"]
    assert taken.keys() == found.keys()
    assert all(w.numel() == 0 for w in taken.values())
    expected, total = flows(model, torch.zeros(2, 6))
    for name, fields in found.items():
        assert_close(fields["through"], expected[name] / total)


@pytest.mark.parametrize("kind", ["synflow", "weight_synflow"])
def test_a_forward_that_fails_or_writes_to_its_weights_leaves_them_as_they_are(kind):
    class Writes(nn.Module):
        def __init__(self, fails):
            super().__init__()
            self.one, self.two, self.fails = nn.Linear(4, 6), nn.Linear(6, 3), fails

        def forward(self, x):
            with torch.no_grad():
                self.one.weight.mul_(2)
            x = self.two(torch.relu(self.one(x)))
            if self.fails and x.dtype == torch.float64:
                raise RuntimeError("no")
            return x

    for fails in (False, True):
        model = fill(Writes(fails))
        graph = secateur.trace(model, images(2, 4))
        with assert_unchanged(model):
            found = collect(graph, {kind})
        assert bool(found.values[kind]) is not fails
        assert bool(found.missing.get(kind)) is fails


def test_the_contract():
    check_criterion("synflow")
