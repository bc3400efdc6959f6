"""How much is left after each of several steps of pruning.

cubic: Zhu, Gupta, "To prune, or not to prune", 2017 (1710.01878), equation 1, from a sparsity of 0; most goes early.
halving: the targets of SNAP-it, Verdenius, Stol, Forre, "Pruning via Iterative Ranking of Sensitivity Statistics", 2020
(2006.00896), for 50 times fewer parameters at initialisation; its 6 targets and the limit are 7 steps.
"""

from __future__ import annotations

from typing import Literal, get_args

from .errors import BadOption, UnknownName

Schedule = Literal["linear", "cubic", "geometric", "halving"]


def left(schedule: Schedule, target: float, step: int, steps: int) -> float:
    """The fraction kept after so many of the steps, 1 after none and exactly `target` after all, 0 <= target <= 1.

    linear: 1 - (1 - target) * step / steps; cubic: target + (1 - target) * (1 - step / steps) ** 3; geometric:
    target ** (step / steps), so that each step keeps the same part of what it finds; halving: half goes in the first
    step, and each of the others takes half of what is still to go: of the limit 1 - target, step i + 1 has removed
    limit - (limit - 0.5) * 0.5 ** i, and the last takes the rest. Where the limit is below a half the first takes all.
    Raises `UnknownName` for another schedule.
    """
    if schedule not in get_args(Schedule):
        raise UnknownName("schedule", schedule, get_args(Schedule))
    if step == steps:
        return target
    done = step / steps
    if schedule == "linear":
        return 1 - (1 - target) * done
    if schedule == "halving":
        return target + max(0.0, 0.5 - target) * 0.5 ** (step - 1) if step else 1.0
    return target + (1 - target) * (1 - done) ** 3 if schedule == "cubic" else target**done


def check_steps(steps: int) -> None:
    """Raise `BadOption` unless `steps` is a whole number from 1."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadOption(f"steps={steps!r}: give a whole number from 1; 1 prunes at once")
