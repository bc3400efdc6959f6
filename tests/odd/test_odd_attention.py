"""The laws of odd nets on those of odd_attention.py."""

import odd_attention
from odd_attention import HEADS
from odd_case import CASES, graph
from odd_laws import Laws, cases_of


class TestAttention(Laws):
    cases = cases_of(odd_attention)


def test_whole_heads_are_called_heads():
    """A unit of `qkv` is no neuron, and the report says so."""
    for name in odd_heads():
        group = next(g for g in graph(name).groups if g.name == "qkv")
        assert "head" in group.kind, (name, group)
        assert "head" in repr(group)


def odd_heads():
    """Cases whose heads can go."""
    return [n for n in cases_of(odd_attention) if CASES[n].axes.get("qkv.weight:0") == HEADS and n != "DimFromWidth"]
