"""Reductions, pools and resizing: what is left runs over the kept indices, the rest passes as NaN does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import assert_rules, carried, flow

X = (2, 6, 4, 3)  # 2 + 6 + 4 + 3 = 15 indices

OVER = {
    "mean": lambda x: x.mean(1),
    "mean, kept": lambda x: x.mean(1, keepdim=True),
    "mean of two axes": lambda x: x.mean((1, -1)),
    "mean of all": lambda x: x.mean(),
    "mean as another type": lambda x: x.mean(1, dtype=torch.float64),
    "sum": lambda x: x.sum(1),
    "sum of all": lambda x: x.sum(),
    "prod": lambda x: x.prod(1),
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin((1, 2), keepdim=True),
    "aminmax": lambda x: x.aminmax(dim=1),
    "max of all": lambda x: x.max(),
    "var": lambda x: x.var(1, correction=0),
    "std": lambda x: x.std((1, 2), unbiased=False, keepdim=True),
    "var_mean": lambda x: torch.var_mean(x, 1, correction=0),
    "logsumexp": lambda x: x.logsumexp(1),
    "norm": lambda x: x.norm(dim=1),
    "norm of order 1": lambda x: torch.linalg.vector_norm(x, 1, dim=1),
    "norm of all": lambda x: x.norm(),
    "normalize": lambda x: F.normalize(x, dim=1),
    "nansum": lambda x: x.nansum(1),
    "count": lambda x: x.count_nonzero(1) + x.sum(1),
    "any": lambda x: (x > 1).any(1) * x.sum(1),
    "centred": lambda x: x - x.mean(1, keepdim=True),
    "mean of a merge": lambda x: x.flatten(1, 2).mean(1),
}
SEVERAL = {"normalize": 1, "centred": 1, "count": 2, "any": 2}
POISONED = {"nansum"}  # NaN counts for nothing there
FREE = {"mean of a merge": 2 + 6 + 3}


@pytest.mark.parametrize("case", [c for c in OVER if c not in POISONED])
def test_a_reduction_runs_over_what_is_kept(case):
    assert_rules(OVER[case], X, free=FREE.get(case, 15), reduced=SEVERAL.get(case, 1))


PASSED = {
    "mean over space": (lambda x: x.mean((2, 3)), 6),
    "var over space": (lambda x: x.var((2, 3)), 6),
    "mean over channels": (lambda x: x.mean(1), 6),
    "global response": (
        lambda x: (lambda g: x * g / (g.mean(1, keepdim=True) + 1e-6))(x.norm(dim=(2, 3), keepdim=True)),
        6,
    ),
    "max pool": (lambda x: F.max_pool2d(x, 2), 6),
    "max pool with numbers": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], 6),
    "average pool": (lambda x: F.avg_pool2d(x, 2, stride=1), 6),
    "average pool of a line": (lambda x: F.avg_pool1d(x[..., 0], 2), 6),
    "power pool": (lambda x: F.lp_pool2d(x, 2, 2), 6),
    "adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, (2, 1)), 6),
    "adaptive pool to one": (lambda x: F.adaptive_avg_pool2d(x, 1), 6),
    "adaptive max pool": (lambda x: F.adaptive_max_pool2d(x, 2), 6),
    "adaptive pool by the number of channels": (lambda x: F.adaptive_avg_pool2d(x, x.shape[1]), 0),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 6),
    "nearest of a line": (lambda x: F.interpolate(x[..., 0], scale_factor=2), 6),
    "bilinear": (lambda x: F.interpolate(x, size=(3, 5), mode="bilinear"), 6),
    "bicubic, smooth": (lambda x: F.interpolate(x, size=(3, 5), mode="bicubic", antialias=True), 6),
    "argmax over space": (lambda x: x * x.flatten(2).argmax(2)[:, :, None, None], 6),
    "argmax over channels": (lambda x: x * x.argmax(1, keepdim=True), 0),
    "max without its number": (lambda x: x.max(1).values, 6),
    "max with its number": (lambda x: x * x.max(1, keepdim=True).indices, 0),
    "pool of channels": (lambda x: F.max_pool1d(x[..., 0].transpose(1, 2), 2), 0),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x.repeat_interleave(2, 1), 2), 6 - 3),
    "pixel_shuffle of a repeat": (lambda x: F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2), 1),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x[..., :2], 2), 6),
    "pixel_shuffle back": (lambda x: F.pixel_shuffle(F.pixel_unshuffle(x[..., :2], 2), 2), 6),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 2), 3),
    "unfolded windows": (lambda x: F.unfold(x, 2), 6),
    "folded windows": (lambda x: F.fold(F.unfold(x, (2, 1), stride=(2, 1)), (4, 3), (2, 1), stride=(2, 1)), 6),
}


@pytest.mark.parametrize("case", PASSED)
def test_a_live_axis_among_constant_ones(case):
    f, free = PASSED[case]
    over = int(case in ("mean over channels", "global response", "argmax over channels") or "its number" in case)
    assert_rules(carried(f), (6,), free=free, reduced=over)


def test_pixel_shuffle_takes_the_channels_of_one_pixel_together():
    found = flow(lambda x: F.pixel_shuffle(torch.ones(1, 1, 2, 2) * x[:, None, None], 2), (8,))
    assert found.inputs[0][0].tolist() == np.repeat(found.outputs[0][1], 4).tolist()


@pytest.mark.parametrize("f", [lambda x: x.sum(1), lambda x: x.amax(1, keepdim=True)])
def test_the_record_holds_the_labels_of_what_is_read_and_given(f):
    found = flow(f, X)
    (record,) = found.reduced
    assert [a.tolist() for a in record.inputs[0]] == [a.tolist() for a in found.trace.tensors["input0"]]
    assert [a.tolist() for a in record.outputs[0]] == [a.tolist() for a in found.labels[0]]


def test_a_reduction_along_fixed_axes_alone_needs_no_labels():
    found = flow(carried(lambda x: x.mean((2, 3))), (6,))
    assert [(r.op, r.inputs, r.outputs) for r in found.trace.reductions] == [("aten.mean.dim", (), ())]
