"""Merging on nets written in odd ways: where it is not refused, a unit that does what another does goes unnoticed.

A wrong yes would show: the units are made twins, and nothing may then change.
"""

import pytest
from odd_all import CASES
from odd_case import new

import secateur
from held import difference, run
from secateur.graph.example import map_tensors
from secateur.surgery.mergeable import mergeable
from twins import merging, twin


@pytest.mark.parametrize("name", CASES)
def test_twins_merge_and_nothing_changes(name):
    case = CASES[name]
    example = map_tensors(case.example, lambda t: t.double() if t.is_floating_point() else t)
    dense = secateur.trace(new(name).double().eval(), example, kinds=case.kinds)
    pairs = {g: (1, 0) for g in mergeable(dense, dense.groups).kin if dense[g].size > 1}
    g = twin(dense, pairs)
    may = mergeable(g, [g[group] for group in pairs])
    assert {n for n in pairs if may.kin[n][1] == 0} == set(pairs)
    pruned = secateur.cut(g, merging(g, pairs))
    assert pruned.check.max_error < 1e-9
    assert difference(run(g.model, example), run(pruned.model, example)) < 1e-9
