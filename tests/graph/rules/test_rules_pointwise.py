"""Element-wise ops against poisoned and cut tensors: indices that meet are the same, whatever the op."""

import pytest
import torch
import torch.nn.functional as F
from oracle import assert_rules, carried, cases, flow

from secateur.graph.record import STREAM
from secateur.graph.trace import read

X = (2, 6, 4, 3)  # 2 + 6 + 4 + 3 = 15 indices

EXACT = {
    "add": (lambda x, y: x + y, [X, X], 15),
    "in place": (lambda x, y: x.clone().mul_(y).relu_(), [X, X], 15),
    "add a row": (lambda x, y: x + y, [X, (3,)], 15),
    "broadcast": (lambda x, y: x * y, [X, (6, 1, 1)], 2 + 6 + 4 + 3),
    "broadcast both ways": (lambda x, y: x + y, [(4, 1), (1, 5)], 9),
    "a number": (lambda x: 2 * x + 1, [X], 15),
    "hardswish": (lambda x: F.hardswish(x), [X], 15),
    "gelu": (lambda x: F.gelu(x, approximate="tanh"), [X], 15),
    "prelu": (lambda x, s: F.prelu(x, s), [(2, 6, 4), (6,)], 12),
    "prelu with one slope": (lambda x, s: F.prelu(x, s), [(2, 6, 4), (1,)], 12),
    "where": (lambda x, y: torch.where(x > 0, x, y), [X, X], 15),
    "where, a number": (lambda x: torch.where(x > 0, x, 0.0) + x, [X], 15),
    "masked fill": (lambda x: x.masked_fill(x > 9, 0.0), [X], 15),
    "clamp": (lambda x: x.clamp(0.1, 2), [X], 15),
    "lerp": (lambda x, y, w: torch.lerp(x, y, w), [X, X, (6, 1, 1)], 15),
    "addcmul": (lambda x, y, w: torch.addcmul(x, y, w), [X, X, X], 15),
    "max of two": (lambda x, y: torch.max(x, y), [X, X], 15),
    "minimum": (lambda x, y: torch.minimum(x, y), [X, X], 15),
    "copy": (lambda x: torch.zeros_like(x).copy_(x), [X], 15),
    "into an output": (lambda x, y: torch.add(x, y, out=torch.empty_like(x)), [X, X], 15),
    "outer": (lambda x, y: x[:, None] * y[None], [(4,), (5,)], 9),
    "swish of a gate": (lambda x, y: F.silu(x) * y, [(2, 6), (2, 6)], 8),
    "fixed width": (lambda x: x * torch.ones(6, 1, 1), [X], 15 - 6),
    "a row of numbers": (lambda x: x + torch.arange(3.0), [X], 15 - 3),
}


@pytest.mark.parametrize("case", cases(EXACT))
def test_labels_go_where_values_go(case):
    f, shapes, free = EXACT[case]
    assert_rules(f, *shapes, free=free, whole=case not in ("prelu with one slope",))


ALONG = {
    "times its own length": (lambda x: x * x.shape[1], 0),
    "over its own length": (lambda x: x / x.shape[1], 0),
    "over the root of its length": (lambda x: x / x.shape[1] ** 0.5, 0),
    "by its length from the other side": (lambda x: x * (1 / x.shape[1]), 0),
    "by its length after a float": (lambda x: x * (1.0 / x.shape[1]), 0),
    "times half of its length": (lambda x: x * (0.5 * x.shape[1]), 0),
    "times less its length": (lambda x: x * -x.shape[1], 0),
    "times its length as an int": (lambda x: x * int(x.shape[1]), 0),
    "times the number of its elements": (lambda x: x * x.numel(), 0),
    "a branch on its length": (lambda x: x * 2 if x.shape[1] > 3 else x, 0),
    "a branch on its length, equal": (lambda x: x * 2 if x.shape[1] == 6 else x, 0),
    "only its height": (lambda x: x / x.shape[2], 6),
    "the length of its batch": (lambda x: x * len(x), 6),
}
FAULTS = {
    "by its length after a float": "float / traced int is done by float, and leaves no trace",
    "times half of its length": "float * traced int is done by float, and leaves no trace",
    "times its length as an int": "int() of a traced int leaves no trace",
    "times the number of its elements": "numel() is no traced int",
    "a branch on its length": "comparisons of order leave no trace",
    "a branch on its length, equal": "a comparison with a plain number leaves no trace",
}


@pytest.mark.parametrize("case", cases(ALONG, FAULTS))
def test_numbers_made_of_a_length(case):
    f, free = ALONG[case]
    assert_rules(carried(f), (6,), free=free)


def test_a_sum_of_layers_is_a_stream_and_a_shift_is_none():
    net = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 4), "b": torch.nn.Linear(4, 4), "c": torch.nn.Linear(4, 2)})

    class Residual(torch.nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.net, self.shift = net, torch.nn.Parameter(torch.zeros(4)) if shift else None

        def forward(self, x):
            x = self.net["a"](x)
            x = x + (self.net["b"](x) if self.shift is None else self.shift)
            return self.net["c"](x)

    for shift in (False, True):
        trace = read(Residual(shift), torch.zeros(2, 3))
        axis = trace.tensors["net.c.weight"][1]
        marked = set(trace.classes[trace.roles & STREAM > 0].tolist())
        assert (set(trace.classes[axis].tolist()) <= marked) is not shift


def test_a_single_index_broadcast_over_many_stays():
    found = flow(lambda x, y: x + y, (2, 6), (2, 1))
    assert set(found.inputs[1][1].tolist()) <= found.frozen
    assert not set(found.inputs[0][1].tolist()) & found.frozen
