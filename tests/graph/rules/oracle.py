"""What an op really does to each index: mark one index of one axis with NaN, and see where NaN arrives; cut it away,
and see that what is left is what the masked op gave.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from secateur.graph.example import tensors
from secateur.graph.provenance import traced_attributes
from secateur.graph.record import Reduction, Trace
from secateur.graph.trace import _Authored, _Ops
from secateur.graph.tracer import Tracer
from secateur.surgery.mask import masked_forward, select

CUTS = 24  # random cuts on which an op is tried; all of them where there are fewer


class Flow(NamedTuple):
    """Classes of each input axis and output axis, what is frozen, and the trace and labels they come from."""

    inputs: list[tuple[np.ndarray, ...]]
    outputs: list[tuple[np.ndarray, ...]]
    frozen: set[int]
    trace: Trace
    labels: list[tuple[np.ndarray, ...]]  # of the outputs

    @property
    def reduced(self) -> list[Reduction]:
        """The reductions along an axis that carries labels."""
        return [r for r in self.trace.reductions if r.inputs]

    @property
    def free(self) -> list[int]:
        """Classes of input indices that may be cut."""
        return sorted({int(c) for axes in self.inputs for axis in axes for c in axis} - self.frozen)


def flow(f: Callable[..., Any], *shapes: tuple[int, ...]) -> Flow:
    """Where the labels of inputs go, by the rules; 0 is never cut."""
    tracer, fake = Tracer(), FakeTensorMode(allow_non_fake_inputs=True)
    given = [fake.from_tensor(torch.ones(shape)) for shape in shapes]
    for i, tensor in enumerate(given):
        tracer.adopt(tensor, f"input{i}")
    with traced_attributes(nn.Module(), tracer), torch.no_grad(), fake, _Ops(tracer), _Authored(tracer):
        made = tensors(f(*given))
    outputs = [tracer.axes(t) for t in made]
    trace = tracer.finish([], {})

    def classes(axis: np.ndarray) -> np.ndarray:
        return np.where(axis > 0, trace.classes[axis], -1)

    held = [tuple(classes(a) for a in axes) for axes in tracer.tensors.values()]
    return Flow(held, [tuple(classes(a) for a in axes) for axes in outputs], set(trace.frozen), trace, outputs)


Slice = tuple[int, int, int]  # input, axis, index


def _given(shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    made = (torch.rand(s, generator=torch.Generator().manual_seed(i), dtype=dtype) for i, s in enumerate(shapes))
    return [t + 0.5 for t in made]


def poisoned(f: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], marks: list[Slice]) -> list[Tensor]:
    """Which elements of each output become NaN when these slices are NaN."""
    given = _given(shapes)
    for number, axis, index in marks:
        given[number].select(axis, index).fill_(float("nan"))
    return [t.isnan() if t.is_floating_point() else torch.zeros(t.shape, dtype=torch.bool) for t in tensors(f(*given))]


def assert_rules(
    f: Callable[..., Any], *shapes: tuple[int, ...], free: int, whole: bool = True, reduced: int = 0
) -> Flow:
    """Hold the rules to the truth: what carries a free label is poisoned, whole and alone, by the slices of that label;
    and the op on what a cut leaves gives what the masked op gave there.

    `free`: how many classes of input indices must have stayed free, so that freezing everything does not pass.
    `whole=False`: slices may hold constants too, such as padding around a map. `reduced`: how many reductions along
    labelled axes are recorded; only what those read may reach other slices.
    """
    found = flow(f, *shapes)
    mixed = {
        int(c) for r in found.reduced for axes in r.inputs or () for a in axes or () for c in found.trace.classes[a]
    }
    places: dict[int, list[Slice]] = {}
    for number, axes in enumerate(found.inputs):
        for axis, classes in enumerate(axes):
            for index, c in enumerate(classes.tolist()):
                if c not in found.frozen:
                    places.setdefault(c, []).append((number, axis, index))
    for c, marks in places.items():
        for output, axes in zip(poisoned(f, shapes, marks), found.outputs, strict=True):
            expected = torch.zeros(output.shape, dtype=torch.bool)
            for axis, classes in enumerate(axes):
                for index in np.flatnonzero(classes == c).tolist():
                    expected.select(axis, index).fill_(True)
            if c in mixed:
                assert (expected <= output).all(), (c, marks)
            else:
                assert torch.equal(output, expected) if whole else (output <= expected).all() and output.any(), marks
    assert len(places) == free
    assert len(found.reduced) == reduced
    check_cuts(f, shapes, found)
    return found


class _Op(nn.Module):
    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, *inputs: Tensor) -> Any:
        return self.f(*inputs)


def check_cuts(f: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], found: Flow) -> int:
    """Cut = mask, for one op: `f` of kept slices is what masked `f` gives in them. Returns how many cuts were tried."""
    given, tried = _given(shapes, torch.float64), 0
    for alive in _cuts(found):
        masked = tensors(masked_forward(_Op(f), found.trace, tuple(given), alive))
        own = [found.trace.tensors[f"input{i}"] for i in range(len(given))]
        made = tensors(f(*(select(t, axes, alive) for t, axes in zip(given, own, strict=True))))
        for whole, axes, part in zip(masked, found.labels, made, strict=True):
            wanted = select(whole, axes, alive)
            assert wanted.shape == part.shape
            assert torch.allclose(wanted.double(), part.double(), rtol=1e-9, atol=1e-12, equal_nan=True)
        tried += 1
    return tried


def _cuts(found: Flow) -> Iterator[Tensor]:
    """(labels,) alive in all cuts, or many, that leave something of every axis."""
    classes, free = found.trace.classes, np.array(found.free)
    rng = np.random.default_rng(0)
    count = 2 ** min(len(free), 16)
    numbers = range(count) if count <= CUTS else [int(rng.integers(count)) for _ in range(4 * CUTS)]
    axes = [a for held in (*found.trace.tensors.values(), *found.labels) for a in held]
    left = CUTS
    for number in numbers:
        keep = np.ones(int(classes.max()) + 1, dtype=bool)
        bits = np.array([number >> i & 1 for i in range(min(len(free), 16))] + [1] * max(len(free) - 16, 0), dtype=bool)
        keep[free[~bits] if len(free) else []] = False
        alive = keep[classes]
        if left and all(alive[a].any() for a in axes if a.size):
            left -= 1
            yield torch.from_numpy(alive)


def carried(f: Callable[..., Any]) -> Callable[..., Any]:
    """(6,) as the channels of a (2, 6, 4, 3) map, then `f`: constants come from outside the parameters."""
    return lambda x, *others: f(torch.ones(2, 1, 4, 3, dtype=x.dtype) * x[:, None, None], *others)


def cases(table: dict[str, Any], faults: dict[str, str] | None = None) -> list[Any]:
    """The names of a table; those that the engine gets wrong today fail, and must fail until it is mended."""
    assert set(faults or {}) <= set(table)
    return [
        pytest.param(
            n, marks=pytest.mark.xfail(strict=True, reason=f"engine: {faults[n]}") if n in (faults or {}) else ()
        )
        for n in table
    ]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` if the block takes longer: a test must end, also where the engine does not."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
