"""What a run reports: one row per epoch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One epoch. Row 0, present where there is an evaluation, is the model before training: no loss, no rate.

    `loss` is what was minimised, penalties included, as a mean over the examples of the epoch; `lr` is that of its last
    step; `seconds` is the time of its training steps; `metric` is None for an epoch that was not evaluated.
    """

    epoch: int
    loss: float | None
    lr: float | None
    seconds: float
    metric: float | None


@dataclass
class History:
    """The rows of a run, in order."""

    rows: list[Row] = field(default_factory=list)

    @property
    def metrics(self) -> list[float]:
        """The evaluations, in order."""
        return [row.metric for row in self.rows if row.metric is not None]

    @property
    def best(self) -> float | None:
        """The highest evaluation, if there was one."""
        return max(self.metrics, default=None)

    def is_stale(self, patience: int | None) -> bool:
        """Whether the last `patience` evaluations have all failed to exceed the best before them."""
        values = self.metrics
        return patience is not None and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])
