"""Slices, selects, splits and reads by number against poisoned and cut tensors."""

import pytest
import torch
import torch.nn.functional as F
from oracle import assert_rules, carried, cases, flow, within

X = (2, 6, 4, 3)  # 2 + 6 + 4 + 3 = 15 indices
AT = torch.tensor([0, 2])


def written(f):
    """`f` writes into a copy of its input, which is returned."""

    def g(x, *others):
        y = x.clone()
        f(y, *others)
        return y

    return g


SLICES = {
    "whole": (lambda x: x[:, 0:], [X], 15),
    "to beyond the end": (lambda x: x[:, :9], [X], 15),
    "from": (lambda x: x[:, 2:], [X], 15 - 2),
    "to": (lambda x: x[:, :2], [X], 15 - 2),
    "from, to": (lambda x: x[:, 1:4], [X], 15 - 4),
    "to, from the end": (lambda x: x[:, :-2], [X], 15 - 2),
    "from, from the end": (lambda x: x[:, -2:], [X], 15 - 2),
    "from the end, to the end": (lambda x: x[:, -3:-1], [X], 15 - 3),
    "stride": (lambda x: x[:, :, ::2], [X], 2 + 6 + 3),
    "narrow": (lambda x: x.narrow(1, 2, 2), [X], 15 - 4),
    "narrow from the end": (lambda x: x.narrow(1, -3, 2), [X], 15 - 3),
    "two axes": (lambda x: x[:, 1:, 2:], [X], 15 - 3),
    "of equal sizes, counted two ways": (lambda x: x[-2:, 2:], [(4, 4)], 4),
    "halves by its own size": (lambda x: x[:, : x.shape[1] // 2], [X], 15 - 6),
    "beyond its own size": (lambda x: x[: x.shape[0] + 1], [(6,)], 0),
    "to its own size": (lambda x: x[: x.shape[0]], [(6,)], 6),
    "to the size of another": (lambda x, y: x[: y.shape[0]], [(6,), (4,)], 6),
    "select": (lambda x: x[:, 2], [X], 15 - 3),
    "select from the end": (lambda x: x[:, -2], [X], 15 - 2),
    "select by its own size": (lambda x: x[:, x.shape[1] - 2], [X], 15 - 5),
    "select by the size of another": (lambda x, y: x[:, y.shape[0]], [X, (2,)], 15 - 3),
    "unbind": (lambda x: x.unbind(1), [X], 15 - 6),
    "unpacked": (lambda x: [a * 2 for a in x], [X], 15 - 2),
    "written": (written(lambda y: y[:, 2:].mul_(2)), [X], 15 - 2),
    "zeros written": (written(lambda y: y.__setitem__((slice(None), slice(2)), 0.0)), [X], 15 - 2),
    "zeros written from the end": (written(lambda y: y.__setitem__((slice(None), slice(-2, None)), 0.0)), [X], 15 - 2),
}
SLICE_FAULTS = {
    "select by its own size": "an index given by an int that a cut changes is taken for a plain number",
}


@pytest.mark.parametrize("case", cases(SLICES, SLICE_FAULTS))
def test_slices(case):
    f, shapes, free = SLICES[case]
    with within(2 if case in SLICE_FAULTS else 60):
        assert_rules(f, *shapes, free=free, whole="written" not in case)


SPLITS = {
    "chunk": (lambda x: x.chunk(2, 1), [X], 15 - 3),
    "chunk, swapped": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), [X], 15 - 3),
    "chunk, more than there are": (lambda x: x.chunk(4, 1), [X], 15 - 4),
    "chunk, unequal": (lambda x: x.chunk(4, 1), [(2, 7, 3)], 5),
    "split by a plain number": (lambda x: x.split(2, 1), [X], 15 - 6),
    "split, a rest": (lambda x: x.split(4, 1), [X], 15 - 6),
    "split by its own size": (lambda x: x.split(x.shape[1] // 3, 1), [X], 15 - 6),
    "split by its own size, a rest": (lambda x: x.split(x.shape[0] // 3), [(10,)], 0),
    "split, by name": (lambda x: x.split(split_size=2, dim=1), [X], 15 - 6),
    "torch.split": (lambda x: torch.split(x, [1, 5], dim=1), [X], 15 - 6),
    "split into plain sizes": (lambda x: x.split((2, 4), 1), [X], 15 - 6),
    "split with sizes": (lambda x: x.split_with_sizes((3, 3), 1), [X], 15 - 6),
    "split with sizes, by name": (lambda x: x.split_with_sizes(split_sizes=(3, 3), dim=1), [X], 15 - 6),
    "unsafe split": (lambda x: torch.unsafe_split(x, 3, 1), [X], 15 - 6),
    "tensor_split": (lambda x: x.tensor_split(3, 1), [X], 15 - 4),
    "tensor_split at": (lambda x: x.tensor_split((3,), 1), [X], 15 - 3),
    "hsplit": (lambda x: x.hsplit(2), [X], 15 - 3),
    "glu": (lambda x: F.glu(x, 1), [X], 15 - 3),
    "chunk of what was joined": (lambda x, y: torch.cat([x, y], 1).chunk(2, 1), [(2, 3), (2, 3)], 2 + 3),
    "split of what was joined": (
        lambda x, y: torch.cat([x, y], 1).split((x.shape[1], y.shape[1]), 1),
        [(2, 3), (2, 4)],
        2 + 3 + 4,
    ),
    "slice of what was joined": (lambda x, y: torch.cat([x, y], 1)[:, : x.shape[1]], [(2, 3), (2, 4)], 2 + 3 + 4),
    "last of what was joined": (lambda x, y: torch.cat([x, y], 1)[:, -y.shape[1] :], [(2, 3), (2, 4)], 2 + 3 + 4),
    "narrowed, what was joined": (
        lambda x, y: torch.cat([x, y], 1).narrow(1, x.shape[1], y.shape[1]),
        [(2, 3), (2, 4)],
        2 + 3 + 4,
    ),
}
SPLIT_FAULTS = {
    "hsplit": "hsplit falls apart into slices, so that its pieces need not stay equal",
}


@pytest.mark.parametrize("case", cases(SPLITS, SPLIT_FAULTS))
def test_splits(case):
    f, shapes, free = SPLITS[case]
    with within(2 if case in SPLIT_FAULTS else 60):
        assert_rules(f, *shapes, free=free)


READS = {
    "index": (lambda x: x[:, AT], [X], 15 - 6),
    "index, not neighbouring": (lambda x: x[AT, :, AT], [(3, 6, 4)], 6),
    "index, neighbouring": (lambda x: x[:, AT, AT], [X], 2 + 3),
    "index, by a table": (lambda x: x[:, torch.tensor([[0, 1, 5]])], [X], 15 - 6),
    "index, a mask of rows": (lambda x: x[:, AT.new_tensor([0, 4])] * 2, [X], 15 - 6),
    "index_select": (lambda x: x.index_select(1, AT), [X], 15 - 6),
    "index_select from the end": (lambda x: x.index_select(-3, AT), [X], 15 - 6),
    "gather": (lambda x: x.gather(1, torch.zeros(x.shape[0], 1, dtype=torch.long)), [(4, 6)], 4),
    "gather in part": (lambda x: x.gather(1, torch.zeros(2, 3, dtype=torch.long)), [(4, 6)], 0),
    "gather, last": (lambda x: x.gather(-1, torch.zeros(4, 2, dtype=torch.long)), [(4, 6)], 0),
    "embedding": (lambda w: F.embedding(torch.tensor([[0, 3], [1, 1]]), w), [(5, 4)], 4),
    "index_add": (lambda x, y: x.index_add(0, AT, y), [(4, 3), (2, 3)], 3),
    "index_copy": (lambda x, y: x.index_copy(1, AT, y), [(4, 3), (4, 2)], 4),
    "index_put": (lambda x, y: x.index_put((AT,), y), [(4, 3), (2, 3)], 3),
    "index_put behind": (written(lambda z, y: z.__setitem__((slice(None), AT), y)), [(2, 3), (2, 2)], 2),
    "topk": (lambda x: x.topk(2, 1).values, [X], 15 - 6),
    "sort": (lambda x: x.sort(1)[0], [X], 15 - 6),
    "cumsum": (lambda x: x.cumsum(1), [X], 15 - 6),
    "cumprod, last": (lambda x: x.cumprod(-1), [X], 15 - 3),
    "tril": (lambda x: x.tril(), [(5, 4, 3)], 5),
    "unfold": (lambda x: x.unfold(1, 2, 2), [X], 15 - 6),
}


@pytest.mark.parametrize("case", READS)
def test_reads_by_number(case):
    f, shapes, free = READS[case]
    whole = "put" not in case and case not in ("tril", "index_add", "index_copy")
    assert_rules(f, *shapes, free=free, whole=whole, reduced=int(case == "topk"))


ALONG = {
    "chunk": (lambda x: x.chunk(2, 1)[1], 3),
    "slice": (lambda x: x[:, 2:], 4),
    "slice in space": (lambda x: x[:, :, 1:, ::2], 6),
    "select in space": (lambda x: x[..., 0], 6),
    "index in space": (lambda x: x[:, :, AT], 6),
    "sorted in space": (lambda x: x.sort(2)[0], 6),
    "unfold in space": (lambda x: x.unfold(2, 2, 1), 6),
    "flattened, then chunks": (lambda x: x.flatten(1).chunk(2, 1)[0], 3),
    "argsort of channels": (lambda x: x.argsort(1), 0),
    "cumsum": (lambda x: x.cumsum(1), 0),
}


@pytest.mark.parametrize("case", ALONG)
def test_a_live_axis_among_constant_ones(case):
    f, free = ALONG[case]
    assert_rules(carried(f), (6,), free=free)


def test_a_bound_keeps_what_it_counts():
    found = flow(lambda x: x[:, 2:5], (2, 8))
    assert [c in found.frozen for c in found.inputs[0][1]] == [True] * 5 + [False] * 3
    found = flow(lambda x: x[:, -3:-1], (2, 8))
    assert [c in found.frozen for c in found.inputs[0][1]] == [False] * 5 + [True] * 3


def test_a_frozen_label_says_why():
    assert flow(carried(lambda x: x.cumsum(1)), (6,)).frozen
