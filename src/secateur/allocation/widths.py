"""Widths to choose from, what they are worth and what they really cost, and the best of them within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..cost.cost import CostModel
from ..groups.graph import Graph
from ..groups.scores import Scores
from .frontier import most_worth

ROUNDS = 8


class Problem:
    """Costs of layers multiply, so they are taken around an answer, and anew around the next, until it stays."""

    def __init__(
        self,
        graph: Graph,
        scores: Scores,
        cost: CostModel,
        limits: Mapping[str, float],
        options: Mapping[str, Sequence[int]],
    ) -> None:
        self.cost, self.limits, self.options = cost, dict(limits), options
        self.names = [g.name for g in graph.groups]
        self.least = {n: o[0] for n, o in options.items()}
        falling = {n: np.sort(scores[n].numpy())[::-1] for n in self.names}
        self.worth = {n: np.append(0.0, np.cumsum(s))[list(options[n])] for n, s in falling.items()}

    def fits(self, widths: Mapping[str, int]) -> bool:
        """Whether widths are within the limits."""
        found = self.cost.at(widths)
        return all(getattr(found, field) <= limit for field, limit in self.limits.items())

    def value(self, widths: Mapping[str, int]) -> float:
        """The sum of scores that widths keep."""
        return float(sum(self.worth[n][self.options[n].index(widths[n])] for n in self.names))

    def solve(self) -> dict[str, int]:
        """Costs are taken around an answer; the answers that really fit are kept, and the best of them is filled up."""
        best, around = self.least, {n: o[-1] for n, o in self.options.items()}
        seen: list[dict[str, int]] = []
        for _ in range(ROUNDS):
            found = self._around(around)
            if found is None:
                half = {n: (w + self.least[n]) // 2 for n, w in around.items()}
                around = {n: max(o for o in self.options[n] if o <= half[n]) for n in self.names}
                continue
            if self.fits(found) and self.value(found) > self.value(best):
                best = found
            if found in seen:
                break
            seen.append(found)
            around = found
        return self._filled(best)

    def _around(self, widths: Mapping[str, int]) -> dict[str, int] | None:
        """The best widths if each group's cost did not depend on the others', which are as in `widths`."""
        now = self.cost.at(widths)
        base = sum(getattr(now, field) / limit for field, limit in self.limits.items())
        tables = []
        for name in self.names:
            each = [self.cost.along(name, self.options[name], widths, f) / limit for f, limit in self.limits.items()]
            tables.append((np.sum(each, axis=0) - base, self.worth[name]))
        chosen = most_worth(tables, len(self.limits) - base + 1e-12)
        if chosen is None:
            return None
        return {n: self.options[n][i] for n, i in zip(self.names, chosen, strict=True)}

    def _filled(self, widths: dict[str, int]) -> dict[str, int]:
        """A step wider where that fits and is worth something, the most worth first, as long as there is one."""
        widths, grown = dict(widths), True
        while grown:
            at = {n: self.options[n].index(w) for n, w in widths.items()}
            gain = {n: self.worth[n][i + 1] - self.worth[n][i] for n, i in at.items() if i + 1 < len(self.options[n])}
            grown = False
            for name in sorted(gain, key=lambda n: -gain[n]):
                wider = widths | {name: self.options[name][at[name] + 1]}
                if gain[name] > 0 and self.fits(wider):
                    widths, grown = wider, True
        return widths
