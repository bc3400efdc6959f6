"""Contractions: which labels meet, which are the weight's own, and what each costs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import check, flow

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
    check(lambda w: F.linear(torch.ones(2, 4), w), (3, 4), free=3)


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
