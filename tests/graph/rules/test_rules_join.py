"""Joins, pads, copies and constants against poisoned and cut tensors."""

import pytest
import torch
import torch.nn.functional as F
from oracle import assert_rules, carried, cases, flow

X = (2, 6, 4, 3)  # 2 + 6 + 4 + 3 = 15 indices

EXACT = {
    "cat": (lambda x, y: torch.cat([x, y], 1), [(2, 3, 4), (2, 5, 4)], 2 + 3 + 5 + 4),
    "cat, last": (lambda x, y: torch.cat([x, y], -1), [(2, 3), (2, 5)], 2 + 3 + 5),
    "cat with itself": (lambda x: torch.cat([x, x], 1), [(2, 3)], 5),
    "cat with nothing": (lambda x: torch.cat([torch.ones(0), x], 1), [(2, 3)], 5),
    "constant in front": (lambda x: torch.cat([torch.ones(2, 1), x], 1), [(2, 3)], 3),
    "stack": (lambda x, y: torch.stack([x, y], 1), [(2, 3), (2, 3)], 5),
    "stack, last": (lambda x, y: torch.stack([x, y], -1), [(2, 3), (2, 3)], 5),
    "stack and flatten": (lambda x, y: torch.stack([x, y], 2).flatten(1), [(2, 3), (2, 3)], 5),
    "contiguous": (lambda x: x.transpose(0, 1).contiguous(), [X], 15),
    "to": (lambda x: x.double().float(), [X], 15),
    "dropout in eval": (lambda x: F.dropout(x, training=False), [X], 15),
    "clone": (lambda x: x.clone().detach(), [X], 15),
    "ones like": (lambda x: x + torch.zeros_like(x), [X], 15),
    "zeros of its own sizes": (lambda x: x + torch.zeros(x.shape), [X], 15),
    "new zeros of its own sizes": (lambda x: x + x.new_zeros(x.size(0), x.shape[1], x.shape[2], 3), [X], 2 + 6 + 4),
    "full of its own sizes": (lambda x: x * torch.full((x.shape[1], 1, 1), 2.0), [X], 15),
    "zeros of a plain size": (lambda x: x + torch.zeros(6, 1, 1), [X], 15 - 6),
    "arange of its own size": (lambda x: x * torch.arange(x.shape[1])[:, None, None], [X], 15 - 6),
    "full of its own length": (lambda x: x + torch.full((2, 1, 1, 1), x.shape[1]), [X], 2 * 0 + 4 + 3),
    "cat, one axis of them": (lambda x, y: torch.cat([x, y]), [(2, 4), (3, 4)], 2 + 3 + 4),
}


@pytest.mark.parametrize("case", EXACT)
def test_labels_go_where_values_go(case):
    f, shapes, free = EXACT[case]
    assert_rules(f, *shapes, free=free, whole="constant in front" not in case)


ALONG = {
    "pad in space": (lambda x: F.pad(x, (1, 1, 2, 0)), 6),
    "pad channels by plain numbers": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), 6),
    "pad channels by their own number": (lambda x: F.pad(x, (0, 0, 0, 0, 0, x.shape[1])), 6),
    "pad channels by half": (lambda x: F.pad(x, (0, 0, 0, 0, 0, x.shape[1] // 2)), 0),
    "pad with ones": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 0), value=1.0), 6),
    "pad channels up to a plain number": (lambda x: F.pad(x, (0, 0, 0, 0, 0, 6 - x.shape[1])), 0),
    "crop": (lambda x: F.pad(x, (0, 0, 0, 0, -1, 0)), 0),
    "reflect in space": (lambda x: F.pad(x, (1, 1, 2, 0), mode="reflect"), 6),
    "replicate in space": (lambda x: F.pad(x, (1, 1, 2, 0), mode="replicate"), 6),
    "circular in space": (lambda x: F.pad(x, (1, 1, 2, 0), mode="circular"), 0),
    "replicate channels": (lambda x: F.pad(x.movedim(1, -1).flatten(1, 2), (1, 1), mode="replicate"), 0),
}
ALONG_FAULTS = {
    "pad channels up to a plain number": "a padding of nothing that a cut would make something is not required"
}


@pytest.mark.parametrize("case", cases(ALONG, ALONG_FAULTS))
def test_a_live_axis_among_constant_ones(case):
    f, free = ALONG[case]
    assert_rules(carried(f), (6,), free=free, whole="pad" not in case)


def test_a_padding_has_labels_of_its_own():
    """Plain numbers of padded channels stay; the channels between may go."""
    found = flow(carried(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2))), (6,))
    axis = found.outputs[0][1].tolist()
    assert axis[1:7] == found.inputs[0][0].tolist()
    assert set(axis[:1] + axis[7:]) <= found.frozen
    assert not set(axis[1:7]) & found.frozen


def test_a_constant_of_a_stated_size_shrinks_with_what_it_meets():
    found = assert_rules(lambda x: torch.ones(x.shape[0], 2) @ torch.ones(2, 3) + x[:, None], (6,), free=6)
    assert found.outputs[0][0].tolist() == found.inputs[0][0].tolist()


def test_joined_pieces_keep_their_labels():
    found = flow(lambda x, y: torch.cat([x, y, x]), (2,), (3,))
    (x,), (y,) = (tuple(a.tolist() for a in axes) for axes in found.inputs)
    assert found.outputs[0][0].tolist() == x + y + x
