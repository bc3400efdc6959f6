"""How much is left after each step: by hand, and what all schedules share."""

from typing import get_args

import pytest

from secateur.errors import BadOption, UnknownName
from secateur.schedule import Schedule, check_steps, left


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1.0, 0.8125, 0.625, 0.4375, 0.25]),  # a quarter of 0.75 each time
        ("cubic", [1.0, 0.25 + 0.75 * 27 / 64, 0.25 + 0.75 / 8, 0.25 + 0.75 / 64, 0.25]),
        ("geometric", [1.0, 0.25**0.25, 0.5, 0.125**0.5, 0.25]),
        ("halving", [1.0, 0.5, 0.375, 0.3125, 0.25]),
    ],
)
def test_four_steps_to_a_quarter(schedule, expected):
    assert [left(schedule, 0.25, k, 4) for k in range(5)] == pytest.approx(expected, abs=1e-15)


def test_the_targets_of_snap_it_to_a_fiftieth():
    """Removed: limit - (limit - 0.5) * 0.5 ** i for i = 0..5, then the limit itself."""
    removed = [1 - left("halving", 0.02, k, 7) for k in range(1, 8)]
    assert removed[:6] == pytest.approx([0.98 - 0.48 * 0.5**i for i in range(6)], abs=1e-15)
    assert removed[:3] == pytest.approx([0.5, 0.74, 0.86], abs=1e-15)
    assert removed[6] == 0.98


def test_halving_goes_no_further_than_asked():
    """Where more than half may stay, the first step goes all the way."""
    assert [left("halving", 0.7, k, 4) for k in range(5)] == [1.0, 0.7, 0.7, 0.7, 0.7]


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("target", [0.0, 0.1, 0.3, 1.0])
def test_from_all_to_exactly_the_target_and_never_up(schedule, target):
    found = [left(schedule, target, k, 7) for k in range(8)]
    assert (found[0], found[-1]) == (1.0, target)
    assert found == sorted(found, reverse=True)
    assert left(schedule, target, 1, 1) == target


def test_what_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'cubic'"):
        left("cubik", 0.5, 1, 2)
    for steps in (0, -1, 2.0, True, "3"):
        with pytest.raises(BadOption, match="whole number from 1"):
            check_steps(steps)
    check_steps(1)
