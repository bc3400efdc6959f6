"""Sums by unit against loops."""

import numpy as np
import torch

from secateur.evidence.units import over_members, per_unit
from secateur.groups.group import Member


def member(axis, index):
    return Member("w", axis, "out", False, np.array(index))


def test_a_unit_is_the_sum_over_what_it_holds_along_an_axis():
    values = torch.randn(4, 6, 3)
    index = np.array([[0, 5], [1, 3], [4, 2]])
    expected = torch.stack([values[:, list(row)].double().sum() for row in index])
    torch.testing.assert_close(per_unit(values, 1, index), expected)
    assert per_unit(values[:, :, 0].contiguous()[0], 0, index).dtype == torch.float64


def test_elements_that_are_held_along_two_axes_count_once():
    values = torch.randn(6, 3, 5, dtype=torch.float64)
    rows, columns = [[0, 3], [1, 4], [2, 5]], [[2], [0], [1]]
    expected = []
    for k in range(3):
        held = torch.zeros(6, 3, 5, dtype=torch.bool)
        held[rows[k]] = True
        held[:, columns[k]] = True
        expected.append(values[held].sum())
    found = over_members([member(0, rows), member(1, columns)], values)
    torch.testing.assert_close(found, torch.stack(expected))
