"""What zeros buy, measured: a product with a weight as it is, and with the same weight as compressed rows.

Nothing is implied: most libraries multiply with zeros as with any number, and compressed rows hold an index beside
each value. Times are medians of interleaved samples on the CPU at hand.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from ..errors import BadOption
from .pattern import Number, exact, lowest, rounded

LEAST_SECONDS = 1e-3  # that a sample lasts, by repetition
INDEX_BYTES = 4


@dataclass(frozen=True)
class Timing:
    """One product of a weight (rows, inputs) with so many columns, three ways, in milliseconds."""

    rows: int
    inputs: int
    zeros: int
    batch: int
    dense_ms: float
    scipy_ms: float  # compressed rows, scipy
    torch_ms: float  # compressed rows, torch
    threads: int
    dense_bytes: int  # float32
    compressed_bytes: int  # float32 values, int32 indices

    @property
    def sparsity(self) -> float:
        """The part that is zero."""
        return self.zeros / (self.rows * self.inputs)

    def __str__(self) -> str:
        best = min(self.scipy_ms, self.torch_ms)
        told = f"{self.dense_ms / best:.2f} times as fast" if best < self.dense_ms else "no gain"
        return (
            f"{self.rows} x {self.inputs}, {self.sparsity:.4g} zero, batch {self.batch}, {self.threads} threads: dense "
            f"{self.dense_ms:.4g} ms, compressed rows {self.scipy_ms:.4g} ms (scipy), {self.torch_ms:.4g} ms (torch): "
            f"{told}; {self.dense_bytes} bytes dense, {self.compressed_bytes} compressed"
        )


def measure(rows: int, inputs: int, sparsity: Number, *, batch: int = 32, repeats: int = 11, seed: int = 0) -> Timing:
    """Time a linear layer (rows, inputs) of random weights, that part of them, anywhere, zero. Raises `BadOption`."""
    if rows < 1 or inputs < 1:
        raise BadOption(f"rows={rows!r}, inputs={inputs!r}: give the shape of a linear layer")
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, inputs, generator=generator)
    count = rounded(exact(sparsity, "sparsity") * rows * inputs, "down")
    gone = lowest(torch.rand(rows * inputs, generator=generator), count)
    return measured(weight.masked_fill(gone.reshape(rows, inputs), 0), batch=batch, repeats=repeats)


def measured(weight: Tensor, *, batch: int = 32, repeats: int = 11) -> Timing:
    """Time products of this weight, (rows, inputs), with (inputs, batch) in float32 on the CPU. Raises `BadOption`."""
    if batch < 1 or repeats < 1:
        raise BadOption(f"batch={batch!r}, repeats={repeats!r}: give whole numbers from 1")
    dense = weight.detach().to("cpu", torch.float32).contiguous()
    x = torch.randn(dense.shape[1], batch, generator=torch.Generator().manual_seed(0))
    by_scipy, array = csr_matrix(dense.numpy()), x.numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Ss]parse CSR.*")
        by_torch = dense.to_sparse_csr()
    with torch.no_grad():
        times = _interleaved([lambda: dense @ x, lambda: by_scipy @ array, lambda: by_torch @ x], repeats)
    return Timing(
        rows=dense.shape[0],
        inputs=dense.shape[1],
        zeros=int((dense == 0).sum()),
        batch=batch,
        dense_ms=times[0],
        scipy_ms=times[1],
        torch_ms=times[2],
        threads=torch.get_num_threads(),
        dense_bytes=dense.numel() * dense.element_size(),
        compressed_bytes=compressed_bytes(dense != 0, dense.element_size()),
    )


def compressed_bytes(kept: Tensor, value_bytes: int) -> int:
    """Of a matrix as compressed rows: a value and an int32 column for each that is kept, and an int32 start a row."""
    return int(kept.sum()) * (value_bytes + INDEX_BYTES) + (kept.shape[0] + 1) * INDEX_BYTES


def _interleaved(ways: list[Callable[[], object]], repeats: int) -> list[float]:
    """Milliseconds, the median of each."""
    return [statistics.median(column) * 1e3 for column in samples(ways, repeats).T.tolist()]


def samples(ways: list[Callable[[], object]], repeats: int) -> NDArray[np.float64]:
    """(repeats, ways) seconds of one call, in the order they were taken: one sample of each way, so often."""
    counts = []
    for way in ways:
        way()
        once = _seconds(way, 1)
        counts.append(max(1, int(LEAST_SECONDS / max(once, 1e-9))))
    return np.array([[_seconds(w, n) / n for w, n in zip(ways, counts, strict=True)] for _ in range(repeats)])


def _seconds(way: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        way()
    return time.perf_counter() - start
