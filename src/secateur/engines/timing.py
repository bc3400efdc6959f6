"""Wall times of several runners on one machine, taken in turn, so that what disturbs one disturbs all."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..errors import BadOption
from .base import Runner
from .compiled import torch_threads

LEAST_MS = 1.0  # of one sample: quicker runners run several times for it
LEAST_ROUNDS = 3
WARM_UPS = 3


@dataclass(frozen=True)
class Samples:
    """Measured values in the order taken: milliseconds of one run, or ratios of two such times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the values lie below."""
        return float(np.quantile(self.values, 0.5))

    @property
    def low(self) -> float:
        """The lower quartile: of times, what the machine does when little else disturbs it."""
        return float(np.quantile(self.values, 0.25))

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles, lower and upper: the middle half of the values lies between them."""
        lower, upper = np.quantile(self.values, (0.25, 0.75))
        return float(lower), float(upper)


@dataclass(frozen=True)
class Timings(Mapping[str, Samples]):
    """Milliseconds of one run by the runner's name; values at one place were taken in one round."""

    samples: Mapping[str, Samples]
    threads: int = 1

    def __getitem__(self, name: str) -> Samples:
        return self.samples[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def ratio(self, over: str, under: str) -> Samples:
        """Time of `over` / time of `under`, round by round: how many times faster `under` is.

        What slows the machine for a while slows both of a round, so these ratios spread less than those of medians.
        """
        pairs = zip(self[over].values, self[under].values, strict=True)
        return Samples(tuple(above / below for above, below in pairs))


def time_interleaved(
    runners: Mapping[str, Runner], *, rounds: int = 15, seconds: float | None = None, threads: int = 1
) -> Timings:
    """Warm each runner up, then time all of them in turn for so many rounds; every second round runs backwards.

    `seconds` ends the rounds early, after three at least. A sample of a runner quicker than 1 ms is the mean of as many
    runs as fill that. Torch uses `threads` threads meanwhile, and garbage is not collected. Raises `BadOption`.
    """
    if rounds < 1 or threads < 1:
        raise BadOption(f"rounds={rounds!r}, threads={threads!r}: give whole numbers from 1 up")
    with torch_threads(threads), _no_collection():
        inner = {name: _inner(runner) for name, runner in runners.items()}
        taken: dict[str, list[float]] = {name: [] for name in runners}
        end = math.inf if seconds is None else time.perf_counter() + seconds
        for number in range(rounds):
            if number >= LEAST_ROUNDS and time.perf_counter() > end:
                break
            for name in runners if number % 2 == 0 else reversed(list(runners)):
                taken[name].append(_sample(runners[name], inner[name]))
    return Timings({name: Samples(tuple(values)) for name, values in taken.items()}, threads)


def _sample(runner: Runner, times: int) -> float:
    """Mean milliseconds of one run."""
    start = time.perf_counter()
    for _ in range(times):
        runner()
    return (time.perf_counter() - start) * 1000 / times


def _inner(runner: Runner) -> int:
    """Runs that a sample takes, from the quickest of the warm-ups."""
    quickest = min(_sample(runner, 1) for _ in range(WARM_UPS))
    return max(1, math.ceil(LEAST_MS / quickest))


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection inside."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
