"""Single ops of torch, timed as the eager engine runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cost.ops import Op
from ..engines.compiled import torch_threads

RUNS, ENOUGH_MS, QUARTILE = 5, 4.0, 0.25


def times(ops: Sequence[Op], threads: int) -> list[float]:
    """Milliseconds of each op alone, the lower quartile of several runs."""
    with torch_threads(threads), torch.inference_mode():
        return [_quartile(_made(op)) for op in ops]


def _made(op: Op) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    if op.conv is None:
        batch, m, k, n = op.lengths
        if batch > 1:
            a, b = noise(batch, m, k), noise(batch, k, n)
            return lambda: a @ b
        x, weight = noise(m, k), noise(n, k)
        return lambda: F.linear(x, weight)
    conv, out, read = op.conv, op.lengths[0], op.lengths[-1]
    groups = out if op.kind == "depthwise" else conv.groups
    x = noise(conv.batch, read, *conv.size)
    shape = (read, out // groups) if conv.transposed else (out, read // groups)
    weight, walk, space = noise(*shape, *conv.kernel), conv.walk, len(conv.size)
    still = [0] * space
    return lambda: torch.convolution(
        x, weight, None, walk.stride, walk.padding, walk.dilation, conv.transposed, still, groups
    )


def _quartile(run: Callable[[], Tensor]) -> float:
    """Several runs, more of quick ones."""
    run()
    taken: list[float] = []
    while len(taken) < RUNS or (sum(taken) < ENOUGH_MS and len(taken) < 10 * RUNS):
        start = time.perf_counter()
        run()
        taken.append((time.perf_counter() - start) * 1000)
    return float(np.quantile(taken, QUARTILE))
