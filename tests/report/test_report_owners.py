"""Every class of labels is of a group, or must stay for a reason that is told."""

import numpy as np
from report_nets import residual

from secateur.report.owners import owners


def of(graph, tensor, axis):
    numbers, reasons = owners(graph)
    found = np.unique(numbers[graph.trace.classes[graph.trace.tensors[tensor][axis]]])
    return [reasons.get(-int(n), int(n)) for n in found]


def test_groups_are_numbered_from_one_in_their_order():
    graph = residual()
    assert [g.name for g in graph.groups] == ["stem.0", "first.0"]
    assert of(graph, "stem.0.weight", 0) == of(graph, "second.0.weight", 0) == [1]
    assert of(graph, "first.0.weight", 0) == of(graph, "second.0.weight", 1) == [2]


def test_what_must_stay_says_why_and_only_written_units_are_frozen():
    graph = residual()
    assert of(graph, "head.weight", 0) == [(True, "reaches the model's output")]
    ((stuck, why),) = of(graph, "stem.0.weight", 1)
    assert not stuck, "the model's input is no group"
    assert why


def test_groups_that_the_user_withholds_say_so():
    asked = residual(frozen=["first.*"])
    assert of(asked, "first.0.weight", 0) == [(True, "asked for by frozen='first.*'")]
    assert of(asked, "stem.0.weight", 0) == [1]
    kinds = residual(kinds=["head"])
    ((stuck, why),) = of(kinds, "stem.0.weight", 0)
    assert stuck
    assert "its units are channels" in why
