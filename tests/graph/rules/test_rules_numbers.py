"""Numbers of indices: what may become of them, against ops on cut tensors; and what freezes their axis."""

import pytest
import torch
import torch.nn.functional as F
from oracle import check_cuts, flow

X, W = (3, 5), (5, 4, 2)  # (words, experts), (experts, in, out)


NUMBER = "the number of one of its indices is used"


def best(x):
    return x.argmax(1)


def wide(x, at):
    """Ones where a number is, as long as an axis of `x`."""
    return F.one_hot(at, x.shape[1])


EXACT = {
    "index": lambda x, w: w[best(x)],
    "index, by a table": lambda x, w: w[x.max(1)[1].view(-1, 1).expand(3, 2)],
    "index_select": lambda x, w: w.index_select(0, best(x).flatten()),
    "index behind": lambda x, w: w.movedim(0, 2)[:, :, best(x)],
    "index of two": lambda x, w: x[torch.arange(3), best(x)] + w[best(x)].sum((1, 2)),
    "embedding": lambda x, w: F.embedding(best(x), w.sum(2)),
    "gather": lambda x, w: x.gather(1, best(x)[:, None]) + w[best(x), 0],
    "one hot": lambda x, w: torch.tensordot(wide(x, best(x)).to(w), w, 1),
    "one hot, summed": lambda x, w: wide(x, best(x)).sum(0)[:, None, None] * w,
    "bincount": lambda x, w: torch.bincount(best(x), minlength=x.shape[1])[:, None, None] * w,
    "histc": lambda x, w: torch.histc(best(x).to(x), x.shape[1], 0, x.shape[1] - 1)[:, None, None] * w,
    "histc, to the end": lambda x, w: best(x).to(x).histc(x.shape[1], 0, x.shape[1])[:, None, None] * w,
    "scatter": lambda x, w: torch.zeros_like(x).scatter(1, best(x)[:, None], 1.0) * w[..., 0, 0],
    "scatter, in place": lambda x, w: torch.zeros_like(x).scatter_(1, best(x)[:, None], 2.0),
    "scatter_add": lambda x, w: x.new_zeros(x.shape[1]).scatter_add(0, best(x), x.sum(1)),
    "topk": lambda x, w: w[x.topk(1)[1]],
    "topk, moved about": lambda x, w: w[torch.cat([x.topk(1)[1].T.int(), best(x)[None].int()]).sort()[0]],
    "topk and its values": lambda x, w: w[x.topk(1).indices] * x.topk(1).values[..., None, None],
    "stacked, selected, flipped": lambda x, w: w[torch.stack([best(x), best(-x)]).flip(0)[:, 1]],
}


@pytest.mark.parametrize("case", EXACT)
def test_what_picks_counts_or_marks_is_exact(case):
    f = EXACT[case]
    found = flow(f, X, W)
    experts = set(found.inputs[0][1].tolist())
    assert experts.isdisjoint(found.frozen), found.trace.frozen
    if case not in ("scatter, in place", "scatter_add"):
        assert experts == set(found.inputs[1][0].tolist())
    assert check_cuts(f, (X, W), found) > 4


def test_what_is_inside_of_experts_flows_on():
    for case in ("index", "index_select"):
        found = flow(EXACT[case], X, W)
        words, inside = found.inputs[0][0], found.inputs[1][1:]
        assert [a.tolist() for a in found.outputs[0][1:]] == [a.tolist() for a in inside]
        assert set(found.outputs[0][0].tolist()) <= {-1, *words.tolist()}


FROZEN = {
    "an index, added to": (lambda x, w: w[(best(x) + 1) % 5], NUMBER),
    "compared": (lambda x, w: (best(x) == 2).to(w)[:, None] * w[best(x), 0], NUMBER),
    "as a bool": (lambda x, w: w[best(x)] * best(x).bool()[:, None, None], NUMBER),
    "a table of another length": (lambda x, w: w[:4][best(x).clamp(max=3)], NUMBER),
    "of all axes at once": (lambda x, w: w[x.argmax().view(1) // 3], NUMBER),
    "into a list": (lambda x, w: w[best(x)] + x.new_zeros(5)[best(x)][:, None, None], "fixed width"),
    "plain bins": (lambda x, w: torch.histc(best(x).to(x), 5, 0, 4)[:, None, None] * w, "which no attribute"),
    "too many bins": (lambda x, w: torch.histc(best(x).to(x), 9, 0, 8), NUMBER),
    "plain classes": (lambda x, w: F.one_hot(best(x), 5).T.to(w) @ x, "which no attribute"),
    "a class more": (lambda x, w: F.one_hot(best(x), x.shape[1] + 1), NUMBER),
    "one hot, added up": (lambda x, w: (wide(x, best(x)) + 1).cumsum(1), "depends on the place"),
    "counted by another axis": (lambda x, w: wide(x, best(x)).T.cumsum(0) @ x, None),
    "sorted": (lambda x, w: w[x.sort(1)[1][:, 0]], "puts its indices into an order"),
    "all of them": (lambda x, w: w[x.topk(5)[1]], "puts its indices into an order"),
    "values alone": (lambda x, w: x - x.topk(2).values[:, 1:], "puts its indices into an order"),
    "only gathered": (lambda x, w: x.gather(1, best(x)[:, None]), NUMBER),
    "written": (lambda x, w: torch.zeros_like(x).scatter(1, best(x)[:, None], best(x)[:, None].to(x)), "the number"),
    "put": (lambda x, w: w.index_put((best(x),), w[:3]), NUMBER),
}


@pytest.mark.parametrize("case", FROZEN)
def test_what_reads_numbers_otherwise_freezes(case):
    f, reason = FROZEN[case]
    found = flow(f, X, W)
    experts = set(found.inputs[0][1].tolist())
    told = [found.trace.frozen[c].reason for c in experts & found.frozen]
    if reason is None:
        assert not told
        return
    assert len(told) == 5
    assert all(reason in t for t in told), told


def test_shapes_of_numbers_may_be_read():
    found = flow(lambda x, w: w[best(x)] + torch.zeros_like(best(x))[:, None, None] * best(x).shape[0], X, W)
    assert set(found.inputs[0][1].tolist()).isdisjoint(found.frozen)


def test_as_many_as_a_topk_takes_are_told():
    found = flow(lambda x, w: w[x.topk(2)[1]], X, W)
    (reduction,) = [r for r in found.trace.reductions if r.least]
    assert (reduction.least, reduction.over[0].size) == (2, 5)
    assert reduction.numbers[0] is None
    assert reduction.numbers[1] is reduction.over[0]
