"""Recurrent layers seen whole: the gates of a unit go together, and a cut is what masked units give."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import random_plan
from nets import fill, images
from secateur.errors import TraceError
from secateur.graph.record import IN, OUT
from secateur.graph.trace import read

GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}


class Recurrent(nn.Module):
    """Linear, recurrent, linear; 6 -> 5 -> 4 -> 3."""

    def __init__(self, kind, **options):
        super().__init__()
        ways = 2 if options.get("bidirectional") else 1
        self.a, self.r = nn.Linear(6, 5), kind(5, 4, batch_first=True, **options)
        self.b = nn.Linear(ways * (options.get("proj_size") or 4), 3)

    def forward(self, x):
        return self.b(self.r(torch.relu(self.a(x)))[0])


class Stated(Recurrent):
    """The last state goes on, and the first is given."""

    def forward(self, x):
        x = torch.relu(self.a(x))
        first = x.new_zeros(1, x.shape[0], self.r.hidden_size)
        _, last = self.r(x, (first, first) if isinstance(self.r, nn.LSTM) else first)
        return self.b((last[0] if isinstance(last, tuple) else last)[-1])


class Cells(nn.Module):
    """Cells in a loop over time."""

    def __init__(self, kind):
        super().__init__()
        self.a, self.r, self.b = nn.Linear(6, 5), kind(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        state = None
        for t in range(3):
            state = self.r(torch.relu(self.a(x[:, t])), state)
        return self.b(state[0] if isinstance(state, tuple) else state)


class Packed(Recurrent):
    def forward(self, x):
        x = torch.relu(self.a(x))
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 4]), batch_first=True)
        return self.b(self.r(packed)[0].data)


X = images(2, 7, 6)


def exact(model, x=X):
    graph = secateur.trace(fill(model), x)
    for seed in range(3):
        plan = random_plan(graph, seed)
        assert secateur.cut(graph, plan).check.max_error < 1e-9
    return graph


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"num_layers": 2}, {"bidirectional": True, "num_layers": 2}])
@pytest.mark.parametrize("kind", GATES)
def test_a_cut_is_exact(kind, options):
    assert [(g.name, g.size) for g in exact(Recurrent(kind, **options)).groups] == [("a", 5), ("r", 4)]


@pytest.mark.parametrize("kind", GATES)
def test_states_that_are_given_and_taken(kind):
    assert [(g.name, g.size) for g in exact(Stated(kind)).groups] == [("a", 5), ("r", 4)]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind):
    assert [(g.name, g.size) for g in exact(Cells(kind)).groups] == [("a", 5), ("r", 4)]


@pytest.mark.parametrize("kind", GATES)
def test_the_gates_of_a_unit_go_together(kind):
    member = {m.tensor: m for m in secateur.trace(Recurrent(kind), X)["r"].members}
    rows = [[4 * gate + unit for gate in range(GATES[kind])] for unit in range(4)]
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        assert (
            next(m for m in secateur.trace(Recurrent(kind), X)["r"].members if m.tensor == f"r.{name}").index.tolist()
            == rows
        )
    assert member["b.weight"].index.tolist() == [[u] for u in range(4)]


def test_both_directions_share_their_units():
    graph = secateur.trace(Recurrent(nn.GRU, bidirectional=True), X)
    member = next(m for m in graph["r"].members if m.tensor == "b.weight")
    assert member.index.tolist() == [[u, 4 + u] for u in range(4)]


def test_what_is_read_and_written():
    trace = read(Recurrent(nn.LSTM), X)
    rows, columns = trace.tensors["r.weight_hh_l0"]
    assert (trace.roles[rows] & OUT).all()
    assert (trace.roles[columns] & IN).all()
    assert np.array_equal(trace.classes[rows], np.tile(trace.classes[columns], 4))


@pytest.mark.parametrize("kind", GATES)
def test_cost_by_hand(kind):
    """(B, T, 5) through gates * 4 rows of 5 + 4 columns, between two linear layers."""
    trace = read(Recurrent(kind), X)
    total = sum(t.coefficient * int(np.prod([a.size for a in t.axes])) for t in trace.terms)
    assert total == 2 * 7 * (6 * 5 + GATES[kind] * 4 * (5 + 4) + 4 * 3)


def test_the_module_states_its_new_sizes():
    graph = secateur.trace(fill(Recurrent(nn.LSTM)), X)
    small = secateur.cut(graph, secateur.Plan.keeping(graph, {"a": [0, 3], "r": [1, 2, 3]})).model
    assert (small.r.input_size, small.r.hidden_size) == (2, 3)
    assert small.r.weight_hh_l0.shape == (12, 3)
    assert small.r._flat_weights[0] is small.r.weight_ih_l0


def test_projections():
    exact(Recurrent(nn.LSTM, proj_size=2))


@pytest.mark.parametrize("kind", GATES)
def test_packing_by_lengths_in_the_forward_is_refused(kind):
    """How long a packed sequence is depends on the values of its lengths."""
    with pytest.raises(TraceError, match="values in a tensor"):
        secateur.trace(Packed(kind), X)


class Given(Recurrent):
    """Packed data is given, and how many sequences go on is known."""

    def forward(self, data):
        packed = nn.utils.rnn.PackedSequence(torch.relu(self.a(data)), torch.tensor([2, 2, 1]))
        return self.b(self.r(packed)[0].data)


@pytest.mark.xfail(
    strict=True, reason="engine: module code reads the batch sizes of a packed sequence, which is refused"
)
@pytest.mark.parametrize("kind", GATES)
def test_packed_sequences(kind):
    graph = exact(Given(kind), images(5, 6))
    assert [(g.name, g.size) for g in graph.groups] == [("a", 5), ("r", 4)]
