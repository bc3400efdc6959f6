"""Tables of measured ops: what an engine takes for each op of a model at the widths that matter, and its staircase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..cost.latency import PLAIN, Phase
from ..cost.ops import BLOCK, Op, Timed
from ..errors import UnknownName
from ..graph.record import Convolution, Geometry
from . import onnx_ops, torch_ops

Floats = NDArray[np.float64]
MEMORY = 256e6  # bytes of ops that are held at once
STEP = 48  # a staircase is read from here to the next block, of ops that are BESIDE wide on the other side
BESIDE, SIDE, ROWS = 64, 28, 196
# Engines that cannot time one op by itself quickly, and the one whose ops stand for theirs.
STANDS_FOR = {"compile": "eager"}
RISE = 1.03  # times as slow as the block before: below this they are alike
FEW = 1.15  # times as slow as the next full block: below this a width is on the staircase


def times_of(engine: str, threads: int) -> Callable[[Sequence[Op]], list[float]]:
    """Milliseconds of ops on an engine."""
    by = STANDS_FOR.get(engine, engine)
    if by == "eager":
        return lambda ops: torch_ops.times(ops, threads)
    if by in ("onnxruntime", "openvino"):
        return lambda ops: onnx_ops.times(by, ops, threads)
    raise UnknownName("engine", engine, ["eager", "compile", "onnxruntime", "openvino"])


def measured(
    wanted: Sequence[Timed], known: Mapping[str, Floats], times: Callable[[Sequence[Op]], list[float]]
) -> dict[str, Floats]:
    """Key -> table of each op that is not known yet."""
    todo = {t.key: t for t in wanted if t.key not in known}
    asked = [(t, t.at(values)) for t in todo.values() for values in product(*t.grid)]
    taken = [ms for part in _portions([op for _, op in asked]) for ms in times(part)]
    found: dict[str, list[float]] = {}
    for (one, _), ms in zip(asked, taken, strict=True):
        found.setdefault(one.key, []).append(ms)
    shape = {key: [len(points) for points in t.grid] or [1] for key, t in todo.items()}
    return {key: np.array(values).reshape(shape[key]) for key, values in found.items()}


def _portions(ops: Sequence[Op]) -> Iterator[list[Op]]:
    """As many at a time as fit in memory."""
    held: list[Op] = []
    for op in ops:
        if held and sum(map(_bytes, [*held, op])) > MEMORY:
            yield held
            held = []
        held.append(op)
    if held:
        yield held


def _bytes(op: Op) -> int:
    if op.conv is None:
        batch, m, k, n = op.lengths
        return 4 * batch * (m * k + k * n + m * n)
    out, read = op.lengths[0], op.lengths[-1]
    weight = out * (1 if op.kind == "depthwise" else read) * int(np.prod(op.conv.kernel))
    return 4 * (weight + op.conv.batch * (out + read) * int(np.prod(op.conv.size)))


def staircases(
    kinds: set[str], batch: int, times: Callable[[Sequence[Op]], list[float]]
) -> dict[tuple[str, int], Phase]:
    """(kind, which length) -> how many columns each remainder by a block takes, and how much slower it is."""
    found = {}
    for kind in sorted(kinds):
        for place in {"depthwise": (0,), "gemm": (2, 3)}.get(kind, (0, 1)):
            ops = [_reference(kind, place, STEP + r, batch) for r in range(BLOCK + 1)]
            found[kind, place] = _phase(np.min([times(ops) for _ in range(3)], axis=0))
    return found


def _phase(ms: Floats) -> Phase:
    """From the times at a block, at each width up to the next, and there."""
    low, high = float(ms[0]), float(ms[-1])
    if high < low * RISE:  # nothing is seen of a staircase
        return PLAIN
    columns = np.clip((ms[:-1] - low) / (high - low) * BLOCK, 0, BLOCK)
    slower = np.where(ms[:-1] > FEW * high, ms[:-1] / high, 1.0)
    return tuple(columns.tolist()), tuple(slower.tolist())


def _reference(kind: str, place: int, width: int, batch: int) -> Op:
    """An op of a usual size with one of its lengths set."""
    if kind == "gemm":
        lengths = [1, ROWS * batch, BESIDE * 4, BESIDE * 4]
        lengths[place] = width
        return Op(kind, tuple(lengths))
    k = 1 if kind == "pointwise" else 3
    conv = Convolution(batch, (SIDE, SIDE), (k, k), Geometry((1, 1), (k // 2,) * 2, (1, 1)), 1, False)
    lengths = [width] if kind == "depthwise" else [BESIDE * 2, BESIDE * 2] if kind == "pointwise" else [BESIDE, BESIDE]
    lengths[place] = width
    return Op(kind, tuple(lengths), conv)
