"""Dense against pruned on this machine: timed in turn for engines, threads and batches, beside what MACs suggest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..cost.cost import CostModel
from ..engines.base import ENGINES, Runner
from ..engines.batch import with_batch
from ..engines.timing import Samples, Timings, time_interleaved
from ..errors import BadOption
from ..graph.example import Example
from ..groups.graph import trace

DENSE = "dense"


@dataclass(frozen=True)
class Cell:
    """One pruned model against the dense one: times in milliseconds of one forward, taken in the same rounds."""

    pruned: str  # its name
    engine: str
    threads: int
    batch: int
    dense_ms: Samples
    pruned_ms: Samples
    speedup: Samples  # dense / pruned, round by round
    macs: float  # MACs of the dense model / those of the pruned one

    @property
    def verdict(self) -> str:
        """`faster`; `less` where it is, and the MACs suggest more; `same` where quartiles hold 1; or `slower`."""
        low, high = self.speedup.spread
        if high < 1:
            return "slower"
        if low <= 1:
            return "same"
        return "less" if high < self.macs else "faster"

    @property
    def realised(self) -> float:
        """The speed-up as a part of the ratio of MACs."""
        return self.speedup.median / self.macs

    def as_dict(self) -> dict[str, Any]:
        """Plain data, samples included."""
        times = {n: _plain(getattr(self, n)) for n in ("dense_ms", "pruned_ms", "speedup")}
        cell = {"pruned": self.pruned, "engine": self.engine, "threads": self.threads, "batch": self.batch}
        return {**cell, **times, "macs": self.macs, "realised": self.realised, "verdict": self.verdict}


def bench(
    dense: nn.Module,
    pruned: Mapping[str, nn.Module],
    example: Example,
    *,
    engines: Sequence[str] = ("onnxruntime",),
    threads: Sequence[int] = (1,),
    batches: Sequence[int] = (1,),
    rounds: int = 15,
    progress: Callable[[int, int], None] | None = None,
) -> list[Cell]:
    """A cell for every engine, number of threads, batch size and pruned model, in that order.

    All models of a cell are loaded at once and timed in turn, so that what else the machine does slows all of them.
    `progress` is told how many sets of conditions are done, and of how many. Raises `BadOption` without models, what
    `Engine.check` and `Engine.prepare` raise, and `BadExample` where the batch cannot be changed.
    """
    if not pruned or DENSE in pruned:
        raise BadOption(f"pruned={sorted(pruned)}: give at least one, and none called {DENSE!r}")
    chosen = [ENGINES.make(name) for name in engines]
    for engine in chosen:
        engine.check()
    models = {DENSE: dense, **pruned}
    ratios = _ratios(dense, pruned, example)
    cells: list[Cell] = []
    total = len(engines) * len(threads) * len(batches)
    done = 0
    for engine in chosen:
        for size in batches:
            ready = {name: engine.convert(model, with_batch(example, size)) for name, model in models.items()}
            for count in threads:
                timings = _timed(ready, rounds, count)
                cells += [_cell(timings, name, engine.name, size, ratios[name]) for name in pruned]
                done += 1
                if progress is not None:
                    progress(done, total)
    return cells


def _timed(ready: Mapping[str, Callable[[int], Runner]], rounds: int, threads: int) -> Timings:
    with ExitStack() as stack:
        runners = {name: stack.enter_context(make(threads)) for name, make in ready.items()}
        return time_interleaved(runners, rounds=rounds, threads=threads)


def _cell(timings: Timings, name: str, engine: str, batch: int, macs: float) -> Cell:
    dense, own, speedup = timings[DENSE], timings[name], timings.ratio(DENSE, name)
    return Cell(name, engine, timings.threads, batch, dense, own, speedup, macs)


def _ratios(dense: nn.Module, pruned: Mapping[str, nn.Module], example: Example) -> dict[str, float]:
    """MACs of the dense model over those of each pruned one."""

    def macs(model: nn.Module) -> int:
        return CostModel(trace(model, example)).dense().macs

    whole = macs(dense)
    return {name: whole / macs(model) for name, model in pruned.items()}


def _plain(samples: Samples) -> dict[str, Any]:
    lower, upper = samples.spread
    return {"median": samples.median, "lower": lower, "upper": upper, "samples": list(samples.values)}
