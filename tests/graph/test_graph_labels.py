"""The ledger of labels."""

import numpy as np
import pytest

from secateur.graph.labels import Labels, frozen_axis, is_live
from secateur.graph.solve import Solver


def solved(labels):
    """Classes and freezes, no label preferred."""
    return Solver(labels, np.zeros(labels.count, dtype=np.int8)).solve()


def test_fresh_labels_are_never_zero_and_never_twice():
    labels = Labels()
    a, b = labels.fresh(3), labels.fresh(2)
    assert a.tolist() == [1, 2, 3]
    assert b.tolist() == [4, 5]
    assert labels.fresh(0).size == 0


def test_unify_is_transitive_and_freezing_reaches_the_whole_class():
    labels = Labels()
    a, b, c, d = (labels.fresh(2) for _ in range(4))
    labels.unify(a, b, "")
    labels.unify(c, b, "")
    labels.freeze(c[:1], "because", "somewhere")
    labels.freeze(a[:1], "too late", "elsewhere")
    classes, frozen = solved(labels)
    assert classes[a].tolist() == classes[b].tolist() == classes[c].tolist()
    assert len({*classes[a].tolist(), *classes[d].tolist(), classes[0]}) == 5
    assert list(frozen) == [classes[a[0]]]
    assert (frozen[int(classes[a[0]])].reason, frozen[int(classes[a[0]])].path) == ("because", "somewhere")


def test_meeting_a_constant_freezes():
    labels = Labels()
    a = labels.fresh(3)
    mixed = np.array([a[0], 0, a[2]])
    assert labels.unify(a, mixed, "x") is a
    classes, frozen = solved(labels)
    assert set(frozen) == {classes[a[1]]}
    assert labels.unify(frozen_axis(3), a, "x") is a


def test_an_axis_with_itself_says_nothing():
    labels = Labels()
    a = labels.fresh(3)
    assert labels.unify(a, a, "") is a
    assert labels.freezes == []
    classes, _ = solved(labels)
    assert len(set(classes.tolist())) == 4


def test_freezing_what_is_never_cut_says_nothing():
    labels = Labels()
    labels.freeze(frozen_axis(3), "because", "")
    assert labels.freezes == []


def test_a_product_is_kept_as_it_was_said():
    labels = Labels()
    whole, parts = labels.fresh(6), (labels.fresh(2), labels.fresh(3))
    labels.product(whole, parts, "there")
    (product,) = labels.products
    assert (product.whole is whole, product.parts is parts, product.path) == (True, True, "there")


def test_no_labels():
    classes, frozen = solved(Labels())
    assert classes.tolist() == [0]
    assert frozen == {}
    assert not is_live(frozen_axis(4))


def test_lengths_that_differ_are_our_own_mistake():
    labels = Labels()
    with pytest.raises(AssertionError):
        labels.unify(labels.fresh(2), labels.fresh(3), "")
