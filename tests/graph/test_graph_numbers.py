"""What is known of tensors of numbers, and that it is forgotten when they are written into."""

import numpy as np
import torch

from secateur.graph.numbers import Numbers

AXIS, OTHER = np.arange(1, 5), np.arange(5, 8)


def test_each_tensor_is_about_one_axis_in_one_way():
    numbers, chosen, counts = Numbers(), torch.zeros(2), torch.zeros(2)
    assert numbers.word(chosen) is None
    assert numbers.axis(chosen, "number", "mixed", "count", "end") is None
    numbers.enter(chosen, "number", AXIS)
    numbers.enter(counts, "count", OTHER)
    assert (numbers.word(chosen), numbers.word(counts)) == ("number", "count")
    assert numbers.axis(chosen, "number") is AXIS
    assert numbers.axis(chosen, "mixed", "count") is None
    assert numbers.axis(counts, "count", "end") is OTHER
    numbers.enter(chosen, "mixed", OTHER)
    assert numbers.axis(chosen, "mixed") is OTHER
    assert numbers.axis(chosen, "number") is None


def test_what_is_written_into_counts_no_more():
    numbers, counts, others = Numbers(), torch.zeros(4), torch.zeros(4)
    for tensor, word in ((counts, "count"), (counts[1:], "end"), (others, "count")):
        numbers.enter(tensor, word, AXIS)
    numbers.forget(counts.view(2, 2))
    assert numbers.word(counts) is None
    assert numbers.word(others) == "count"


def test_numbers_that_are_written_into_stay_numbers_for_who_reads_them_freezes():
    numbers, chosen = Numbers(), torch.zeros(4)
    numbers.enter(chosen, "number", AXIS)
    numbers.forget(chosen)
    assert numbers.axis(chosen, "number") is AXIS
