"""Shape rules against poisoned tensors: labels arrive exactly where NaN arrives."""

import pytest
import torch
import torch.nn.functional as F
from oracle import check, flow

X = (2, 6, 4, 3)  # 2 + 6 + 4 + 3 = 15 indices

EXACT = {
    "permute": (lambda x: x.permute(3, 1, 0, 2), [X], 15),
    "permute, negative": (lambda x: x.permute(0, -1, -2, 1), [X], 15),
    "transpose": (lambda x: x.transpose(1, -1), [X], 15),
    "movedim": (lambda x: x.movedim(1, -1), [X], 15),
    "t": (lambda x: x.t(), [(4, 5)], 9),
    "T": (lambda x: x.T, [(4, 5)], 9),
    "mT": (lambda x: x.mT, [X], 15),
    "view as": (lambda x: x.view_as(x), [X], 15),
    "unsqueeze": (lambda x: x.unsqueeze(1), [X], 15),
    "none index": (lambda x: x[:, :, None, None], [(3, 5)], 8),
    "squeeze": (lambda x: x.unsqueeze(2).squeeze(2), [X], 15),
    "contiguous": (lambda x: x.transpose(0, 1).contiguous(), [X], 15),
    "to": (lambda x: x.double().float(), [X], 15),
    "dropout in eval": (lambda x: F.dropout(x, training=False), [X], 15),
    "cat": (lambda x, y: torch.cat([x, y], 1), [(2, 3, 4), (2, 5, 4)], 2 + 3 + 5 + 4),
    "cat, last": (lambda x, y: torch.cat([x, y], -1), [(2, 3), (2, 5)], 2 + 3 + 5),
    "cat with itself": (lambda x: torch.cat([x, x], 1), [(2, 3)], 5),
    "whole slice": (lambda x: x[:, 0:], [X], 15),
    "add": (lambda x, y: x + y, [X, X], 15),
    "in place": (lambda x, y: x.clone().mul_(y).relu_(), [X, X], 15),
    "add a row": (lambda x, y: x + y, [X, (3,)], 15),
    "flip nothing": (lambda x: x.clone(), [X], 15),
    "chain": (lambda x: x.permute(0, 2, 3, 1).contiguous().transpose(1, 2), [X], 15),
    "ones like": (lambda x: x + torch.zeros_like(x), [X], 15),
}


@pytest.mark.parametrize("case", EXACT)
def test_labels_go_where_values_go(case):
    f, shapes, free = EXACT[case]
    check(f, *shapes, free=free)


# Some axes are frozen, and the rest must be exact; the number of free classes shows how much is kept.
PARTLY = {
    "slice": (lambda x: x[:, 1:4], [X], 2 + 4 + 3),
    "stride": (lambda x: x[:, :, ::2], [X], 2 + 6 + 3),
    "select": (lambda x: x[:, 2], [X], 2 + 4 + 3),
    "expand": (lambda x: x.expand(5, -1), [(1, 4)], 4),
    "broadcast": (lambda x, y: x * y, [X, (6, 1, 1)], 2 + 6 + 4 + 3),
    "sum": (lambda x: x.sum(1), [X], 2 + 4 + 3),
    "flatten live axes": (lambda x: x.flatten(1), [X], 2),
    "reshape, two live axes": (lambda x: x.flatten(1, 2), [X], 2 + 3),
    "constant in front": (lambda x: torch.cat([torch.ones(2, 1), x], 1), [(2, 3)], 3),
}


@pytest.mark.parametrize("case", PARTLY)
def test_what_is_not_frozen_is_exact(case):
    f, shapes, free = PARTLY[case]
    check(f, *shapes, free=free)


# One live axis among constant ones, as channels are among batch and space: constants come from outside the parameters.
def carried(f):
    """(6,) as the channels of a (2, 6, 4, 3) map, then `f`."""
    return lambda x: f(torch.ones(2, 1, 4, 3) * x[:, None, None])


ALONG = {
    "flatten": (lambda x: x.flatten(1), 6),
    "reshape": (lambda x: x.reshape(2, -1), 6),
    "flatten before": (lambda x: x.flatten(0, 1), 6),
    "flatten all": (lambda x: x.flatten(), 6),
    "flatten and back": (lambda x: x.flatten(1).reshape(2, -1, 4, 3), 6),
    "flatten space": (lambda x: x.flatten(2).transpose(1, 2), 6),
    "channels last": (lambda x: x.permute(0, 2, 3, 1).reshape(2, 12, -1), 6),
    "split": (lambda x: x.reshape(2, 2, 3, 4, 3), 0),
    "pad in space": (lambda x: F.pad(x, (1, 1, 2, 0)), 6),
    "pad channels by plain numbers": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), 6),
    "crop": (lambda x: F.pad(x, (0, 0, 0, 0, -1, 0)), 0),
    "plain size": (lambda x: x.view(2, 72), 0),
    "plain channels": (lambda x: x.view(2, 6, 12), 0),
    "unknown op": (lambda x: x.cumsum(1), 0),
    "mean over space": (lambda x: x.mean((2, 3)), 6),
    "mean over channels": (lambda x: x.mean(1), 0),
    "max pool": (lambda x: F.max_pool2d(x, 2), 6),
    "average pool": (lambda x: F.avg_pool2d(x, 2, stride=1), 6),
    "adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, (2, 1)), 6),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 6),
    "softmax over channels": (lambda x: x.softmax(1), 0),
    "softmax over space": (lambda x: x.softmax(-1), 6),
    "batch norm of fixed width": (lambda x: F.batch_norm(x, torch.zeros(6), torch.ones(6)), 0),
    "batch norm without tensors": (lambda x: F.batch_norm(x, None, None, training=True), 6),
    "layer norm": (lambda x: F.layer_norm(x, (4, 3)), 6),
    "layer norm over channels": (lambda x: F.layer_norm(x.movedim(1, -1), (6,)), 0),
    "group norm": (lambda x: F.group_norm(x, 3), 0),
    "argmax over space": (lambda x: x * x.flatten(2).argmax(2)[:, :, None, None], 6),
}


@pytest.mark.parametrize("case", ALONG)
def test_a_live_axis_among_constant_ones(case):
    f, free = ALONG[case]
    check(carried(f), (6,), free=free, whole=case != "pad in space")


def test_repeats_of_a_label_split_off_again():
    """Channels repeated by a flatten come back as one axis when the other sizes are constant."""
    found = check(carried(lambda x: x.flatten(1).unflatten(1, (-1, 12))), (6,), free=6)
    assert found.outputs[0][1].tolist() == found.inputs[0][0].tolist()


def test_a_frozen_label_says_why():
    assert flow(carried(lambda x: x.cumsum(1)), (6,)).frozen
