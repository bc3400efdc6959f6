"""Contractions: which labels meet, which are the weight's own, and what each costs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import assert_rules, carried, check_cuts, flow

from secateur.graph.record import IN, OUT
from secateur.graph.trace import read


def axes(found, number=0):
    return [a.tolist() for a in found.inputs[number]]


@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias):
    """(B, 4) with (3, 4): columns meet the input's, rows are the output's."""
    shapes = [(2, 4), (3, 4), (3,)][: 3 if bias else 2]
    found = flow(F.linear, *shapes)
    (batch, inputs), (rows, columns) = axes(found), axes(found, 1)
    assert columns == inputs
    assert [a.tolist() for a in found.outputs[0]] == [batch, rows]
    if bias:
        assert axes(found, 2) == [rows]
    assert not found.frozen - {-1}


def test_linear_on_sequences():
    found = flow(lambda x, w, b: F.linear(torch.ones(2, 5, 1) * x, w, b), (4,), (3, 4), (3,))
    assert axes(found, 1)[1] == axes(found)[0]
    assert found.outputs[0][2].tolist() == axes(found, 1)[0]


def test_convolution():
    found = flow(lambda x, w: F.conv2d(torch.ones(2, 1, 8, 8) * x[:, None, None], w), (4,), (3, 4, 5, 5))
    assert axes(found, 1)[1] == axes(found)[0]
    assert found.outputs[0][1].tolist() == axes(found, 1)[0]
    assert set(axes(found, 1)[2] + axes(found, 1)[3]) <= found.frozen  # positions of the kernel


def test_transposed_convolution_has_its_output_second():
    found = flow(lambda x, w: F.conv_transpose2d(torch.ones(2, 1, 8, 8) * x[:, None, None], w), (4,), (4, 3, 2, 2))
    assert axes(found, 1)[0] == axes(found)[0]
    assert found.outputs[0][1].tolist() == axes(found, 1)[1]


def test_grouped_convolution_ties_the_same_place_of_every_group():
    found = flow(lambda x, w: F.conv2d(torch.ones(2, 1, 8, 8) * x[:, None, None], w, groups=3), (6,), (9, 2, 3, 3))
    (inputs,), (outputs, per_group, *_) = axes(found), axes(found, 1)
    assert inputs == per_group * 3
    assert outputs == outputs[:3] * 3
    assert len(set(outputs)) == 3


def test_depthwise_convolution_by_a_plain_number_of_groups_is_frozen():
    found = flow(lambda x, w: F.conv2d(torch.ones(2, 1, 8, 8) * x[:, None, None], w, groups=6), (6,), (12, 1, 3, 3))
    (inputs,), (outputs, *_) = axes(found), axes(found, 1)
    assert outputs == np.repeat(inputs, 2).tolist()
    assert set(inputs) <= found.frozen


def test_matrix_products_of_activations():
    """(2, 3, 4) @ (2, 4, 5): inner indices meet, batches meet."""
    found = flow(torch.bmm, (2, 3, 4), (2, 4, 5))
    (batch, rows, inner), (other, again, columns) = axes(found), axes(found, 1)
    assert (batch, inner) == (other, again)
    assert [a.tolist() for a in found.outputs[0]] == [batch, rows, columns]


def test_outputs_of_a_contraction_are_poisoned_as_labelled():
    """Rows of the weight only: an index of the inner axis reaches every output, which is what a contraction is."""
    assert_rules(lambda w: F.linear(torch.ones(2, 4, dtype=w.dtype), w), (3, 4), free=3)


# Summed-over axes reach everything, so that poison says nothing: cut = mask does. Of leading axes that torch merges to
# multiply, one is free; an axis of one index is free and counted where nothing takes it away.
CUT = {
    "linear": (F.linear, [(2, 4), (3, 4), (3,)], 2 + 4 + 3),
    "linear of sequences": (F.linear, [(2, 3, 4), (3, 4)], 3 + 4 + 3),
    "linear of merged axes": (lambda x, w: F.linear(x.flatten(1), w), [(2, 4, 3), (5, 12)], 2 + 4 + 5),
    "two products": (lambda x, a, b: (x @ a) @ b, [(2, 3), (3, 4), (4, 2)], 2 + 3 + 4 + 2),
    "low rank": (lambda x, a, b: F.linear(x, a @ b), [(2, 4), (3, 2), (2, 4)], 2 + 4 + 3 + 2),
    "bmm": (torch.bmm, [(2, 3, 4), (2, 4, 3)], 2 + 3 + 4 + 3),
    "matmul, spread": (torch.matmul, [(2, 3, 4), (4, 3)], 3 + 4 + 3),
    "matmul of heads": (lambda q, k: q @ k.transpose(-1, -2), [(2, 3, 4, 2), (2, 3, 4, 2)], 3 + 4 + 4 + 2),
    "baddbmm": (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 + 3 + 4 + 5),
    "addmm": (torch.addmm, [(5,), (3, 4), (4, 5)], 3 + 4 + 5),
    "addmm, one number": (torch.addmm, [(1,), (3, 4), (4, 5)], 1 + 3 + 4 + 5),
    "addmm, a matrix": (torch.addmm, [(3, 5), (3, 4), (4, 5)], 3 + 4 + 5),
    "addmm, a column": (torch.addmm, [(3, 1), (3, 4), (4, 5)], 3 + 1 + 4 + 5),
    "mv": (torch.mv, [(3, 4), (4,)], 3 + 4),
    "dot": (torch.dot, [(4,), (4,)], 4),
    "outer": (torch.outer, [(3,), (4,)], 3 + 4),
    "einsum": (lambda a, b: torch.einsum("bij,bkj->bik", a, b), [(2, 3, 4), (2, 5, 4)], 2 + 3 + 5 + 4),
    "einsum of four": (
        lambda q, k: torch.einsum("bthd,bshd->bhts", q, k),
        [(2, 3, 2, 4), (2, 3, 2, 4)],
        2 + 3 + 3 + 4,
    ),
    "einsum, summed": (lambda a, b: torch.einsum("ij,k->j", a, b), [(3, 4), (2,)], 3 + 4 + 2),
    "einsum, a product": (lambda a, b: torch.einsum("bi,bi->bi", a, b), [(3, 4), (3, 4)], 3 + 4),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=([1, 2], [0, 1])), [(2, 3, 4), (3, 4, 5)], 2 + 4 + 5),
    "convolution": (lambda x, w, b: F.conv2d(x, w, b, padding=1), [(2, 4, 1, 1), (3, 4, 3, 3), (3,)], 2 + 4 + 3),
    "convolution of a line": (F.conv1d, [(2, 4, 3), (3, 4, 1)], 2 + 4 + 3),
    "transposed": (F.conv_transpose2d, [(2, 4, 1, 1), (4, 3, 2, 2), (3,)], 2 + 4 + 3),
    "in groups": (lambda x, w: F.conv1d(x, w, groups=2), [(2, 6, 1), (4, 3, 1)], 2 + 3 + 2),
    "in groups, transposed": (lambda x, w: F.conv_transpose1d(x, w, groups=2), [(2, 6, 1), (6, 2, 1)], 2 + 3 + 2),
    "depthwise": (lambda x, w: F.conv1d(x, w, groups=x.shape[1]), [(2, 4, 1), (4, 1, 1)], 2 + 4),
    "depthwise, doubled": (lambda x, w: F.conv1d(x, w, groups=x.shape[1]), [(2, 4, 1), (8, 1, 1)], 2 + 4),
    "a weight from activations": (
        lambda x, s, w: F.conv1d(x * s, w * s),
        [(2, 4, 1), (4, 1), (3, 4, 1)],
        2 + 4 + 3 + 1,
    ),
}


@pytest.mark.parametrize("case", CUT)
def test_cut_is_masked(case):
    f, shapes, free = CUT[case]
    found = flow(f, *shapes)
    assert len(found.free) == free
    assert check_cuts(f, tuple(shapes), found) > 4


def test_a_convolution_reads_what_a_flatten_made():
    f = carried(lambda x, w: F.linear(x.flatten(1), w))
    found = flow(f, (6,), (3, 72))
    assert axes(found, 1)[1] == np.repeat(axes(found)[0], 12).tolist()
    assert check_cuts(f, ((6,), (3, 72)), found) > 4


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (torch.nn.Linear(4, 3), (2, 4), 2 * 4 * 3),
        (torch.nn.Linear(4, 3), (2, 5, 4), 2 * 5 * 4 * 3),
        (torch.nn.Conv2d(4, 6, 3, padding=1), (2, 4, 8, 8), 2 * 64 * 9 * 4 * 6),
        (torch.nn.Conv2d(4, 6, 3, stride=2), (2, 4, 9, 9), 2 * 16 * 9 * 4 * 6),
        (torch.nn.Conv2d(4, 6, 3, groups=2), (1, 4, 5, 5), 9 * 9 * 2 * 6),
        (torch.nn.Conv2d(4, 8, 3, groups=4), (1, 4, 5, 5), 9 * 9 * 8),
        (torch.nn.Conv1d(4, 6, 3), (2, 4, 8), 2 * 6 * 3 * 4 * 6),
        (torch.nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 27 * 8 * 2 * 3),
        (torch.nn.ConvTranspose2d(4, 6, 3), (1, 4, 5, 5), 25 * 9 * 4 * 6),
    ],
)
def test_cost_by_hand(module, shape, expected):
    trace = read(module, torch.zeros(shape))
    assert sum(t.coefficient * int(np.prod([a.size for a in t.axes])) for t in trace.terms) == expected


def test_cost_of_a_grouped_transposed_convolution():
    from secateur.cost.cost import CostModel
    from secateur.groups.graph import trace

    module = torch.nn.ConvTranspose2d(4, 6, 3, groups=2)
    assert CostModel(trace(module, torch.zeros(1, 4, 5, 5))).dense().macs == 25 * 9 * 4 * 3


def test_roles():
    trace = read(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)), torch.zeros(1, 4))
    rows, columns = trace.tensors["1.weight"]
    assert (trace.roles[rows] == OUT).all()
    assert (trace.roles[columns] == IN).all()
