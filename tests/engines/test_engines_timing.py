"""Timing: who runs when, in what state of the process, and what is made of the samples. The clock here is ours."""

import gc

import pytest
import torch

from secateur.engines import timing
from secateur.engines.base import Runner
from secateur.engines.timing import Samples, Timings, time_interleaved
from secateur.errors import BadOption


class Clock:
    """Seconds that pass when a runner says so."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


class Slow(Runner):
    """Takes so many milliseconds a run; notes who ran, and in what state."""

    def __init__(self, clock, name, milliseconds, log):
        self.clock, self.name, self.milliseconds, self.log = clock, name, milliseconds, log

    def __call__(self):
        self.clock.now += self.milliseconds / 1000
        self.log.append((self.name, gc.isenabled(), torch.get_num_threads()))


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def runs(log):
    return "".join(name for name, _, _ in log)


def test_in_turn_and_every_second_round_backwards(clock):
    log = []
    found = time_interleaved({n: Slow(clock, n, ms, log) for n, ms in (("a", 2), ("b", 5))}, rounds=3)
    assert runs(log) == "aaabbb" + "ab" + "ba" + "ab"  # warm-ups, then rounds
    assert list(found) == ["a", "b"]
    assert found["a"].values == pytest.approx((2, 2, 2))
    assert found["b"].median == pytest.approx(5)
    assert found.ratio("b", "a").values == pytest.approx((2.5, 2.5, 2.5))


def test_quick_runners_run_until_a_sample_takes_a_millisecond(clock):
    log = []
    found = time_interleaved({"q": Slow(clock, "q", 0.3, log)}, rounds=2)
    assert len(log) == 3 + 2 * 4
    assert found["q"].values == pytest.approx((0.3, 0.3))


def test_the_process_is_as_before(clock):
    log, before = [], torch.get_num_threads()
    time_interleaved({"a": Slow(clock, "a", 1, log)}, rounds=1, threads=before + 1)
    assert {state for _, *state in map(list, log) for state in [tuple(state)]} == {(False, before + 1)}
    assert gc.isenabled()
    assert torch.get_num_threads() == before


def test_it_is_as_before_after_an_error_too(clock):
    class Fails(Runner):
        def __call__(self):
            raise ZeroDivisionError

    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError):
            time_interleaved({"a": Fails()}, threads=2)
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("seconds", "rounds"), [(0.055, 6), (0.001, 3), (10, 20), (None, 20)])
def test_seconds_end_the_rounds_after_three_at_least(clock, seconds, rounds):
    found = time_interleaved({"a": Slow(clock, "a", 10, [])}, rounds=20, seconds=seconds)
    assert len(found["a"].values) == rounds


def test_figures_of_samples():
    samples = Samples((4.0, 1.0, 2.0, 3.0, 100.0))
    assert (samples.median, samples.low, samples.spread) == (3.0, 2.0, (2.0, 4.0))


def test_ratios_are_of_one_round():
    """A machine that is ten times slower for a while changes no ratio."""
    timings = Timings({"dense": Samples((2.0, 20.0, 2.2)), "small": Samples((1.0, 10.0, 1.1))})
    assert timings.ratio("dense", "small").values == pytest.approx((2.0, 2.0, 2.0))
    assert len(timings) == 2


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"threads": 0}])
def test_what_makes_no_sense(bad):
    with pytest.raises(BadOption, match="from 1 up"):
        time_interleaved({}, **bad)


def test_a_real_clock():
    class Adds(Runner):
        def __call__(self):
            torch.ones(10).sum()

    found = time_interleaved({"a": Adds()}, rounds=3)
    assert all(0 < value < 1000 for value in found["a"].values)
