"""Widths to choose from, what they are worth and what they really cost, and the best of them within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..cost.cost import CostModel
from ..groups.graph import Graph
from ..groups.scores import Scores
from .frontier import most_worth
from .greedy import met, stepwise

ROUNDS = 4
HASTE = 4.0  # how fast weights follow what was missed


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
        return met(self.cost.at(widths), self.limits)

    def value(self, widths: Mapping[str, int]) -> float:
        """The sum of scores that widths keep."""
        return float(sum(self.worth[n][self.options[n].index(widths[n])] for n in self.names))

    def solve(self) -> dict[str, int]:
        """Costs are taken around an answer; each is narrowed until it really fits, and the best of these filled up."""
        best, around = self.least, {n: o[-1] for n, o in self.options.items()}
        weights = dict.fromkeys(self.limits, 1.0)
        seen: list[dict[str, int]] = []
        for _ in range(ROUNDS):
            found = self._around(around, weights)
            fitting = None if found is None else self._narrowed(found)
            if found is None or fitting is None:
                half = {n: (w + self.least[n]) // 2 for n, w in around.items()}
                around = {n: max(o for o in self.options[n] if o <= half[n]) for n in self.names}
                continue
            if self.value(fitting) > self.value(best):
                best = fitting
            if fitting in seen:
                break
            seen.append(fitting)
            around, weights = fitting, self._weighed(weights, found)
        return self._filled(best)

    def _around(self, widths: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int] | None:
        """The best widths if each group's cost did not depend on the others', which are as in `widths`.

        Of several limits the weighted mean must be met.
        """
        now, shares = self.cost.at(widths), {f: weights[f] / limit for f, limit in self.limits.items()}
        base = sum(getattr(now, f) * share for f, share in shares.items())
        tables = []
        for name in self.names:
            each = [self.cost.along(name, self.options[name], widths, f) * share for f, share in shares.items()]
            tables.append((np.sum(each, axis=0) - base, self.worth[name]))
        chosen = most_worth(tables, sum(weights.values()) - base + 1e-12)
        if chosen is None:
            return None
        return {n: self.options[n][i] for n, i in zip(self.names, chosen, strict=True)}

    def _weighed(self, weights: Mapping[str, float], widths: Mapping[str, int]) -> dict[str, float]:
        """A limit that the weighted mean did not keep weighs more, and one that is no matter less."""
        reached = self.cost.at(widths)
        grown = {f: w * (getattr(reached, f) / self.limits[f]) ** HASTE for f, w in weights.items()}
        return {f: w / max(grown.values()) for f, w in grown.items()}

    def _narrowed(self, widths: Mapping[str, int]) -> dict[str, int] | None:
        """Steps narrower until the limits are met, those of least worth for what they save of limits that are not."""
        reached = self.cost.at(widths)
        missed = {f: limit for f, limit in self.limits.items() if getattr(reached, f) > limit}
        if not missed:
            return dict(widths)
        steps = {}
        for name, width in widths.items():
            worth = self.worth[name][: self.options[name].index(width) + 1][::-1]
            lost = (worth[0] - worth).tolist()
            steps[name] = list(zip(self.options[name][len(worth) - 1 :: -1], lost, strict=True))
        found = stepwise(steps, widths, self.cost, missed)
        return found if found is not None and self.fits(found) else None

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
