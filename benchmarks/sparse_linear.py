"""From which sparsity on a linear layer is faster as compressed rows, on this CPU, with one thread.

    python benchmarks/sparse_linear.py --rounds 31
    python benchmarks/sparse_linear.py --page

Whole forwards are timed, with what laying out inputs and outputs anew takes: the dense layer, scipy's rows, torch's
rows, then the dense layer again, and so on. What counts is the ratio within a round. A kernel wins at a sparsity where
it is faster in three of four rounds, as in `secateur.sparsity.inference`; break-even lies between the highest sparsity
of the grid at which none does and the next. Times are those of the one thread at work, as the system counts them, so
that waiting for other processes is not in them (their use of caches and memory is). `--page` writes the table of
docs/sparsity.md from the stored results alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before NumPy and torch

import numpy as np
import torch
from engine.harness import processor, spread
from torch import nn

from secateur.experiments.environment import environment
from secateur.sparsity.compressed import KERNELS, CompressedLinear
from secateur.sparsity.inference import WON
from secateur.sparsity.measure import LEAST_SECONDS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "sparse_linear.json"
PAGE = ROOT / "docs" / "sparsity.md"
BEGIN, END = "<!-- sparse linear: begin -->", "<!-- sparse linear: end -->"
SHAPES = ((1024, 1024), (1024, 4096))  # inputs, outputs
BATCHES = (1, 32)
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
SHOWN = (0.5, 0.8, 0.9, 0.95, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--page", action="store_true", help="write the table from the stored results alone")
    options = parser.parse_args()
    if not options.page:
        torch.set_num_threads(1)
        load = f"{os.getloadavg()[0]:.2f}"
        cells = [cell(*shape, batch, options.rounds) for shape, batch in product(SHAPES, BATCHES)]
        on = {**environment(), "Processor": processor(), "Load before": load, "Rounds": str(options.rounds)}
        RESULTS.write_text(json.dumps({"environment": on, "cells": cells}, indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text("\n".join([head + BEGIN, "", *table(found), "", END]) + rest.partition(END)[2])


@torch.no_grad()
def cell(inputs: int, outputs: int, batch: int, rounds: int) -> dict:
    """One shape and batch, at every sparsity: the ratio dense / sparse of each kernel, and how often it wins."""
    rows = []
    for sparsity in SPARSITIES:
        layer = sparse_layer(inputs, outputs, sparsity)
        x = torch.randn(batch, inputs, generator=torch.Generator().manual_seed(1))
        made = [CompressedLinear(layer.weight, layer.bias, kernel=kernel) for kernel in KERNELS]
        for other in made:
            torch.testing.assert_close(other(x), layer(x), atol=1e-4, rtol=1e-4)
        taken = samples([partial(module, x) for module in (layer, *made)], rounds)
        ratios = taken[:, :1] / taken[:, 1:]
        row = {"sparsity": sparsity, "dense_ms": spread((taken[:, 0] * 1e3).tolist())}
        for kernel, own in zip(KERNELS, ratios.T, strict=True):
            low, high = np.percentile(own, (25, 75)).round(3).tolist()
            row[kernel] = {"times_as_fast": round(float(np.median(own)), 3), "quartiles": [low, high]}
            row[kernel]["won"] = round(float((own > 1).mean()), 3)
        rows.append(row)
        print(inputs, outputs, batch, sparsity, *(row[k]["times_as_fast"] for k in KERNELS), flush=True)
    return {"inputs": inputs, "outputs": outputs, "batch": batch, "rows": rows, "break_even": break_even(rows)}


def samples(ways: list[Callable[[], object]], rounds: int) -> np.ndarray:
    """(rounds, ways) seconds of this thread for one call, each sample long enough to be measured."""
    counts = []
    for way in ways:
        way()
        counts.append(max(1, int(LEAST_SECONDS / max(seconds(way, 3), 1e-9))))
    return np.array([[seconds(w, n) for w, n in zip(ways, counts, strict=True)] for _ in range(rounds)])


def seconds(way: Callable[[], object], count: int) -> float:
    began = time.thread_time()
    for _ in range(count):
        way()
    return (time.thread_time() - began) / count


def sparse_layer(inputs: int, outputs: int, sparsity: float) -> nn.Linear:
    """A layer of random weights, that part of them, anywhere, zero."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(inputs, outputs)
    weight = torch.randn(outputs, inputs, generator=generator)
    gone = torch.randperm(weight.numel(), generator=generator)[: round(sparsity * weight.numel())]
    weight.view(-1)[gone] = 0
    layer.weight.copy_(weight)
    return layer.eval()


def break_even(rows: list[dict]) -> list[float | None]:
    """[the highest sparsity at which no kernel wins, the next]; None below the grid or above it."""
    won = [max(row[kernel]["won"] for kernel in KERNELS) >= WON for row in rows]
    grid = [None, *(row["sparsity"] for row in rows), None]
    losing = max((i for i, w in enumerate(won, start=1) if not w), default=0)
    return list(list(pairwise(grid))[losing])


def table(found: dict) -> list[str]:
    """How many times as fast as dense the better kernel is, with quartiles, and where break-even lies."""
    on = found["environment"]
    lines = [
        "Written by `benchmarks/sparse_linear.py`: how many times as fast as the dense layer the better of the two",
        "kernels is, median (quartiles) of the ratio within a round; below 1 is slower. Break-even: between these",
        f"sparsities the better one begins to win three rounds of four. {on['Processor']}, one thread, float32, zeros",
        f"anywhere, torch {on['torch']}, {on['Rounds']} rounds, CPU time of the thread (the machine was at work: load",
        f"{on['Load before']} on {on['CPUs']} CPUs).",
        "",
        "| `nn.Linear` | batch | " + " | ".join(f"{100 * s:g} % zero" for s in SHOWN) + " | break-even |",
        "|---" * (3 + len(SHOWN)) + "|",
    ]
    for c in found["cells"]:
        shown = [told(row) for row in c["rows"] if row["sparsity"] in SHOWN]
        edges = between(*c["break_even"])
        lines.append(f"| {c['inputs']} to {c['outputs']} | {c['batch']} | " + " | ".join(shown) + f" | {edges} |")
    return lines


def told(row: dict) -> str:
    """The better kernel: 1.52 (1.43 to 1.60), scipy."""
    kernel = max(KERNELS, key=lambda k: row[k]["times_as_fast"])
    low, high = row[kernel]["quartiles"]
    return f"{row[kernel]['times_as_fast']:.2f} ({low:.2f} to {high:.2f}), {kernel}"


def between(low: float | None, high: float | None) -> str:
    """Break-even in words."""
    if low is None:
        return f"below {100 * high:g} %"
    return f"{100 * low:g} to {100 * high:g} %" if high else f"above {100 * low:g} %"


if __name__ == "__main__":
    main()
