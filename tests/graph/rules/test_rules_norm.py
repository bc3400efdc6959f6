"""Normalisations: each runs over the channels that are kept, and its parameters go with them."""

import pytest
import torch
import torch.nn.functional as F
from oracle import assert_rules, carried, cases, flow

from secateur.graph.record import AFFINE

X = (2, 6, 4, 3)  # 2 + 6 + 4 + 3 = 15 indices
ONES = torch.ones

OVER = {
    "softmax": (lambda x: x.softmax(1), [X], 15, 1),
    "softmax, last": (lambda x: x.softmax(-1), [X], 15, 1),
    "log_softmax": (lambda x: x.log_softmax(1), [X], 15, 1),
    "layer norm": (lambda x: F.layer_norm(x, x.shape[3:]), [X], 15, 1),
    "layer norm, two axes": (lambda x: F.layer_norm(x, x.shape[2:]), [X], 15, 1),
    "layer norm, affine": (lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b), [(2, 6), (6,), (6,)], 2 + 6, 1),
    "layer norm, a plain size": (lambda x: F.layer_norm(x, (3,)), [X], 15 - 3, 1),
    "RMS norm": (lambda x, w: F.rms_norm(x, (x.shape[-1],), w), [(2, 5, 6), (6,)], 2 + 5 + 6, 1),
    "RMS norm by hand": (
        lambda x, w: w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        [(2, 5, 6), (6,)],
        2 + 5 + 6,
        1,
    ),
    "group norm of rows that are cut": (lambda x: F.group_norm(x, 1), [(3, 6)], 3 + 6, 1),
    "group norm, affine": (lambda w, b: F.group_norm(ONES(2, 1).to(w) * w, 2, w, b), [(6,), (6,)], 3, 1),
    "weight norm": (lambda v, g: torch._weight_norm(v, g, 0), [(4, 6), (4, 1)], 4 + 6 + 1, 1),
    "weight norm by columns": (lambda v, g: torch._weight_norm(v, g, 1), [(4, 6), (1, 6)], 4 + 6 + 1, 1),
    "weight standardisation": (
        lambda w: (w - w.mean((1, 2), keepdim=True)) / (w.var((1, 2), keepdim=True, correction=0) + 1e-3),
        [(4, 6, 3)],
        4 + 6 + 3,
        2,
    ),
    "batch norm": (
        lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b),
        [(2, 6, 4), (6,), (6,), (6,), (6,)],
        2 + 6 + 4,
        1,
    ),
    "batch norm of this batch": (
        lambda x, w: F.batch_norm(torch.cat([x, 2 * x]), None, None, w, training=True),
        [(3, 6), (6,)],
        3 + 6,
        1,
    ),
}
FAULTS = {"group norm of rows that are cut": "masked execution gives a group norm the old number of rows"}


@pytest.mark.parametrize("case", cases(OVER, FAULTS))
def test_a_norm_runs_over_what_is_kept(case):
    f, shapes, free, reduced = OVER[case]
    assert_rules(f, *shapes, free=free, reduced=reduced)


ALONG = {
    "softmax over channels": (lambda x: x.softmax(1), 6, 1),
    "softmax over space": (lambda x: x.softmax(-1), 6, 0),
    "batch norm of fixed width": (lambda x: F.batch_norm(x, ONES(6).to(x), ONES(6).to(x)), 0, 0),
    "batch norm without tensors": (lambda x: F.batch_norm(x, None, None, training=True), 6, 0),
    "instance norm": (lambda x: F.instance_norm(x), 6, 0),
    "layer norm over space": (lambda x: F.layer_norm(x, (4, 3)), 6, 0),
    "layer norm over channels, plain": (lambda x: F.layer_norm(x.movedim(1, -1), (6,)), 0, 1),
    "layer norm over channels": (lambda x: F.layer_norm(x.movedim(1, -1), x.shape[1:2]), 6, 1),
    "layer norm over all": (lambda x: F.layer_norm(x, (x.shape[1], 4, 3)), 6, 1),
    "layer norm over a merge": (lambda x: F.layer_norm(x.flatten(1), (x.shape[1] * 12,)), 6, 1),
    "group norm": (lambda x: F.group_norm(x, 3), 2, 1),
    "group norm of one": (lambda x: F.group_norm(x, 1), 6, 1),
    "group norm by its own size": (lambda x: F.group_norm(x, x.shape[1]), 6, 1),
    "group norm by half": (lambda x: F.group_norm(x, x.shape[1] // 2), 0, 1),
}


@pytest.mark.parametrize("case", ALONG)
def test_a_live_axis_among_constant_ones(case):
    f, free, reduced = ALONG[case]
    assert_rules(carried(f), (6,), free=free, reduced=reduced)


@pytest.mark.parametrize("norm", ["layer", "group", "batch"])
def test_scales_and_shifts_go_along(norm):
    f = {
        "layer": lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b),
        "group": lambda x, w, b: F.group_norm(x, 1, w, b),
        "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    }[norm]
    found = flow(f, (3, 6), (6,), (6,))
    assert found.inputs[1][0].tolist() == found.inputs[2][0].tolist() == found.outputs[0][1].tolist()
    for name in ("input1", "input2"):
        assert (found.trace.roles[found.trace.tensors[name][0]] & AFFINE).all()


def test_a_group_norm_says_how_many_groups_are_left():
    """Of the last of three groups nothing can be cut but all: whole groups are the only choice."""
    found = flow(lambda x: (F.group_norm(torch.ones(2, 1) * x, 3), x.unflatten(0, (3, 2))[:, 0]), (6,))
    (record,) = found.reduced
    assert record.groups.size == 3
    found = flow(lambda x: F.group_norm(x, 3), (2, 6))
    assert set(found.trace.classes[found.reduced[0].groups].tolist()) <= found.frozen  # a plain number of groups


def test_in_groups_of_a_plain_number_each_loses_as_many():
    found = flow(lambda x: F.group_norm(x, 3), (2, 6))
    axis = found.inputs[0][1].tolist()
    assert axis[:2] == axis[2:4] == axis[4:]
    assert axis[0] != axis[1]
