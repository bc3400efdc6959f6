"""What an op really does to each index: mark one index of one axis with NaN, and see where NaN arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from secateur.graph.example import tensors
from secateur.graph.trace import _Authored, _Ops
from secateur.graph.tracer import Tracer


class Flow(NamedTuple):
    """Classes of each input axis and output axis, and what is frozen."""

    inputs: list[tuple[np.ndarray, ...]]
    outputs: list[tuple[np.ndarray, ...]]
    frozen: set[int]


def flow(f: Callable[..., Any], *shapes: tuple[int, ...]) -> Flow:
    """Where the labels of inputs go, by the rules; 0 is never cut."""
    tracer, fake = Tracer(), FakeTensorMode()
    given = [fake.from_tensor(torch.ones(shape)) for shape in shapes]
    for i, tensor in enumerate(given):
        tracer.adopt(tensor, f"input{i}")
    with torch.no_grad(), fake, _Ops(tracer), _Authored(tracer):
        made = tensors(f(*given))
    outputs = [tracer.axes(t) for t in made]
    trace = tracer.finish([], {})

    def classes(axis: np.ndarray) -> np.ndarray:
        return np.where(axis > 0, trace.classes[axis], -1)

    held = [tuple(classes(a) for a in axes) for axes in tracer.tensors.values()]
    return Flow(held, [tuple(classes(a) for a in axes) for axes in outputs], set(trace.frozen))


Slice = tuple[int, int, int]  # input, axis, index


def poisoned(f: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], marks: list[Slice]) -> list[Tensor]:
    """Which elements of each output become NaN when these slices are NaN."""
    given = [torch.rand(shape, generator=torch.Generator().manual_seed(i)) + 1 for i, shape in enumerate(shapes)]
    for number, axis, index in marks:
        given[number].select(axis, index).fill_(float("nan"))
    return [t.isnan() if t.is_floating_point() else torch.zeros(t.shape, dtype=torch.bool) for t in tensors(f(*given))]


def check(f: Callable[..., Any], *shapes: tuple[int, ...], free: int, whole: bool = True) -> Flow:
    """Hold the rules to the truth: what carries a free label is poisoned, whole and alone, by the slices of that label.

    `free`: how many classes of input indices must have stayed free, so that freezing everything does not pass.
    `whole=False`: slices may hold constants too, such as padding around a map.
    """
    found = flow(f, *shapes)
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
            assert torch.equal(output, expected) if whole else (output <= expected).all() and output.any(), (c, marks)
    assert len(places) == free
    return found
