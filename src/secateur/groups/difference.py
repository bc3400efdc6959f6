"""How two plan files differ, group by group and in cost."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PlanError
from .plan_file import PlanFile


@dataclass(frozen=True)
class Difference:
    """One group in two plans. Units kept are None in a file that does not name the group, which then stays whole."""

    group: str
    size: int
    a: int | None
    b: int | None
    shared: int  # units that stay in both

    @property
    def same(self) -> bool:
        """Whether the same units stay."""
        return self.shared == (self.size if self.a is None else self.a) == (self.size if self.b is None else self.b)


def difference(a: PlanFile, b: PlanFile) -> tuple[Difference, ...]:
    """One row for each group that either names, in the order of `a`, then of `b`.

    Raises `PlanError` where a group is of different size or kind, for then the plans are of different models.
    """
    rows = []
    for name in dict.fromkeys((*a.groups, *b.groups)):
        one, other = a.groups.get(name), b.groups.get(name)
        if one and other and (one.size, one.kind) != (other.size, other.kind):
            raise PlanError(
                f"group {name!r} is {one.size} {one.kind}s in the first plan and {other.size} {other.kind}s in the "
                "second; they are plans for different models"
            )
        size = (one or other or a.groups[name]).size
        kept = [set(range(size)) if line is None else set(line.kept) for line in (one, other)]
        rows.append(
            Difference(name, size, one.keep if one else None, other.keep if other else None, len(kept[0] & kept[1]))
        )
    return tuple(rows)


def costs(a: PlanFile, b: PlanFile) -> dict[str, tuple[float, float]]:
    """Field -> its value after the cut in each plan, for fields that both state under about["cost"]["after"].

    None where either was edited since: what it states is then the cost of other widths.
    """
    one, other = ({} if edited(file) else _stated(file) for file in (a, b))
    return {field: (value, other[field]) for field, value in one.items() if field in other}


def edited(file: PlanFile) -> bool:
    """Whether other widths are kept than those whose cost the file states, under about["cost"]["of"]."""
    cost = file.about.get("cost")
    told = cost.get("of") if isinstance(cost, dict) else None
    return told is not None and told != keeps(file)


def keeps(file: PlanFile) -> dict[str, int]:
    """Units kept of each group."""
    return {name: line.keep for name, line in file.groups.items()}


def _stated(file: PlanFile) -> dict[str, float]:
    cost = file.about.get("cost")
    after = cost.get("after") if isinstance(cost, dict) else None
    return {k: v for k, v in after.items() if isinstance(v, (int, float))} if isinstance(after, dict) else {}
