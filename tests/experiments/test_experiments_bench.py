"""Dense against pruned: what is compared with what, and what is concluded."""

import pytest
import torch
from torch import nn

from secateur.engines import timing
from secateur.engines.timing import Samples
from secateur.errors import BadExample, BadOption, MissingDependency, UnknownName
from secateur.experiments import bench as module
from secateur.experiments.bench import Cell, bench

X = torch.randn(2, 8)


def net(width):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4))


def cell(speedup, macs):
    return Cell("p", "eager", 1, 1, Samples((1.0,)), Samples((1.0,)), Samples(speedup), macs)


def test_cells_of_all_conditions():
    told = []
    found = bench(
        net(32),
        {"half": net(16), "quarter": net(8)},
        X,
        engines=["eager"],
        threads=[1, 2],
        batches=[1, 5],
        rounds=3,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [(c.batch, c.threads, c.pruned) for c in found] == [
        (b, t, p) for b in (1, 5) for t in (1, 2) for p in ("half", "quarter")
    ]
    assert [c.macs for c in found] == [2.0, 4.0] * 4
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert found[0].dense_ms == found[1].dense_ms  # one set of rounds for all models
    assert found[0].dense_ms != found[2].dense_ms
    assert found[0].as_dict()["speedup"]["samples"] == list(found[0].speedup.values)


@pytest.mark.parametrize(
    ("speedup", "macs", "verdict"),
    [
        ((0.7, 0.8, 0.9), 2.0, "slower"),
        ((0.9, 1.0, 1.5), 2.0, "same"),
        ((0.5, 0.5, 1.5, 1.5), 2.0, "same"),
        ((1.5, 1.6, 1.7), 2.0, "less"),
        ((1.9, 2.0, 2.1), 2.0, "faster"),
        ((2.5, 2.5, 2.5), 2.0, "faster"),
    ],
)
def test_verdicts_are_by_quartiles(speedup, macs, verdict):
    assert cell(speedup, macs).verdict == verdict


def test_realised_is_of_the_median():
    assert cell((1.0, 1.5, 9.0), 2.0).realised == 0.75


def test_models_of_a_cell_take_turns(monkeypatch):
    taken = []
    original = timing.time_interleaved

    def watched(runners, **options):
        taken.append(list(runners))
        return original(runners, **options)

    monkeypatch.setattr(module, "time_interleaved", watched)
    bench(net(4), {"a": net(2), "b": net(1)}, X, engines=["eager"], batches=[2], rounds=3)
    assert taken == [["dense", "a", "b"]]


def test_what_is_refused_before_any_work(monkeypatch):
    with pytest.raises(BadOption, match="at least one"):
        bench(net(4), {}, X)
    with pytest.raises(BadOption, match="none called 'dense'"):
        bench(net(4), {"dense": net(2)}, X)
    with pytest.raises(UnknownName, match="engine"):
        bench(net(4), {"a": net(2)}, X, engines=["eager", "tvm"])
    with pytest.raises(BadExample, match="batch 0"):
        bench(net(4), {"a": net(2)}, X, engines=["eager"], batches=[0])
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingDependency):
        bench(net(4), {"a": net(2)}, X, engines=["eager", "compile"])
