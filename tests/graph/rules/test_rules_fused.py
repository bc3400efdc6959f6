"""Attention seen whole: which heads meet, what stays, and that a cut of heads is what masked heads give."""

import pytest
import torch
import torch.nn.functional as F
from oracle import assert_rules, check_cuts, flow
from torch import nn

from secateur.graph.record import HEAD
from secateur.graph.trace import read

attend = F.scaled_dot_product_attention
B, H, L, S, D, V = 2, 4, 3, 5, 2, 3
QKV = [(B, H, L, D), (B, H, S, D), (B, H, S, V)]


def shared(q, k, v):
    return attend(q, k, v, enable_gqa=True)


ALL = B + H + L + V  # batch, heads, places of queries, width of values: keys' places and widths stay

CUT = {
    "plain": (attend, QKV, ALL),
    "causal": (lambda q, k, v: attend(q, k, v, is_causal=True), [QKV[0], QKV[0], (B, H, L, V)], B + H + V),
    "scaled": (lambda q, k, v: attend(q, k, v, scale=0.3), QKV, ALL),
    "no heads": (attend, [(B, L, D), (B, S, D), (B, S, V)], B + L + V),
    "with a mask": (attend, [*QKV, (L, S)], ALL),
    "with a mask for each head": (attend, [*QKV, (H, L, S)], ALL),
    "a mask that is spread": (attend, [*QKV, (H, 1, S)], ALL + 1),
    "shared keys": (shared, [(B, 4, L, D), (B, 2, S, D), (B, 2, S, V)], ALL - 2),
    "one key head": (shared, [(B, 4, L, D), (B, 1, S, D), (B, 1, S, V)], ALL + 2),
}


@pytest.mark.parametrize("case", CUT)
def test_cut_is_masked(case):
    f, shapes, free = CUT[case]
    found = flow(f, *shapes)
    assert check_cuts(f, tuple(shapes), found) > 4
    assert len(found.free) == free


def test_only_the_head_of_a_value_is_poisoned():
    assert_rules(lambda v: attend(torch.ones(B, H, L, D).to(v), torch.ones(B, H, S, D).to(v), v), QKV[2], free=V)


def test_query_heads_that_share_keys_go_together():
    found = flow(shared, (B, 4, L, D), (B, 2, S, D), (B, 2, S, V))
    (_, q, *_), (_, k, *_), (_, v, *_) = found.inputs
    assert q.tolist() == k.repeat(2).tolist() == v.repeat(2).tolist() == found.outputs[0][1].tolist()


def test_what_attention_sums_over_stays():
    found = flow(attend, *QKV)
    (*_, d), (*_, s, same), (*_, also, _) = found.inputs
    assert {*d.tolist(), *s.tolist(), *same.tolist(), *also.tolist()} <= found.frozen
    assert (found.trace.roles[found.trace.tensors["input0"][1]] & HEAD).all()


def test_heads_with_windows_behind_them_are_heads():
    windows = 2
    found = flow(attend, *((B, H, windows, *rest) for _, _, *rest in QKV))
    trace = found.trace
    assert (trace.roles[trace.tensors["input0"][1]] & HEAD).all()


def test_cost_by_hand():
    found = flow(attend, *QKV)
    total = sum(t.coefficient * int(torch.tensor([a.size for a in t.axes]).prod()) for t in found.trace.terms)
    assert total == B * H * L * S * (D + V)


def test_attention_is_one_function_and_its_inside_no_record():
    found = flow(attend, *QKV)
    assert [w.name for w in found.trace.wholes] == ["scaled_dot_product_attention"]
    assert (found.trace.contractions, found.reduced) == ((), [])


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_module_of_torch_is_seen_through(batch_first):
    trace = read(nn.MultiheadAttention(8, 2, batch_first=batch_first), (torch.zeros(3, 2, 8),) * 3)
    assert [w.name for w in trace.wholes] == ["scaled_dot_product_attention"] or trace.contractions
    assert not any("rule" in f.reason for f in trace.frozen.values())
