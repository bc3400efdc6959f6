"""How much is left after each of several steps of pruning.

cubic: Zhu, Gupta, "To prune, or not to prune", 2017 (1710.01878), equation 1, from a sparsity of 0; most goes early.
"""

from __future__ import annotations

from typing import Literal, get_args

from .errors import BadOption, UnknownName

Schedule = Literal["linear", "cubic", "geometric"]


def left(schedule: Schedule, target: float, step: int, steps: int) -> float:
    """The fraction kept after so many of the steps, 1 after none and exactly `target` after all, 0 <= target <= 1.

    linear: 1 - (1 - target) * step / steps; cubic: target + (1 - target) * (1 - step / steps) ** 3; geometric:
    target ** (step / steps), so that each step keeps the same part of what it finds.
    Raises `UnknownName` for another schedule.
    """
    if schedule not in get_args(Schedule):
        raise UnknownName("schedule", schedule, get_args(Schedule))
    if step == steps:
        return target
    done = step / steps
    if schedule == "linear":
        return 1 - (1 - target) * done
    return target + (1 - target) * (1 - done) ** 3 if schedule == "cubic" else target**done


def check_steps(steps: int) -> None:
    """Raise `BadOption` unless `steps` is a whole number from 1."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadOption(f"steps={steps!r}: give a whole number from 1; 1 prunes at once")
