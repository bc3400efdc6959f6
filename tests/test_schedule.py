"""How much is left after each step: by hand, and what all schedules share."""

import pytest

from secateur.errors import BadOption, UnknownName
from secateur.schedule import check_steps, left


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1.0, 0.8125, 0.625, 0.4375, 0.25]),  # a quarter of 0.75 each time
        ("cubic", [1.0, 0.25 + 0.75 * 27 / 64, 0.25 + 0.75 / 8, 0.25 + 0.75 / 64, 0.25]),
        ("geometric", [1.0, 0.25**0.25, 0.5, 0.125**0.5, 0.25]),
    ],
)
def test_four_steps_to_a_quarter(schedule, expected):
    assert [left(schedule, 0.25, k, 4) for k in range(5)] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cubic", "geometric"])
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
