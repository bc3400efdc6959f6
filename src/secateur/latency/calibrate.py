"""Whole models at several widths on an engine, and what of the tables their times are made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from ..cost.cost import CostModel
from ..cost.latency import FEATURES, Latency
from ..engines.base import ENGINES
from ..engines.timing import time_interleaved
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..surgery.cut import copied, edits

Floats = NDArray[np.float64]
Widths = Mapping[str, int]
UNIFORM = (1.0, 0.75, 0.5, 0.25)
FLOOR, BLOCK = 0.2, 16  # random fractions kept are above the first; every second sample has widths of whole blocks
ROUNDS, SECONDS = 25, 60.0
TRUST = 1.0  # how much a table counts as it is, beside one whole model


def sampled(graph: Graph, count: int, seed: int) -> list[Widths]:
    """The whole model, uniform fractions of it, and random widths: `count` of them."""
    rng = np.random.default_rng(seed)
    found: list[Widths] = []
    for number in range(count):
        if number < len(UNIFORM):
            parts = np.full(len(graph.groups), UNIFORM[number])
        else:  # one level for the model, and each group around it
            parts = np.clip(rng.uniform(FLOOR, 1) + rng.uniform(-0.3, 0.3, len(graph.groups)), FLOOR, 1)
        step = BLOCK if number % 2 else 1
        found.append({g.name: _width(g.size, g.least, p, step) for g, p in zip(graph.groups, parts, strict=True)})
    return found


def _width(size: int, least: int, part: float, step: int) -> int:
    if not least:  # a residual block stays
        return size
    width = int(size * part)
    return min(size, max(least, width - width % step if width > step else width))


def whole_models(graph: Graph, widths: Sequence[Widths], engine: str, threads: int, rounds: int = ROUNDS) -> Floats:
    """(plans,) milliseconds of the model cut to each of these widths: lower quartiles, all taken in turn."""
    chosen = ENGINES.make(engine)
    with ExitStack() as held:
        runners = {}
        for number, found in enumerate(widths):
            plan = Plan.keeping(graph, {name: range(n) for name, n in found.items()})
            model = copied(graph.model, edits(graph, plan)) if plan.edits else copy.deepcopy(graph.model)
            with torch.random.fork_rng(devices=[]):
                runners[str(number)] = held.enter_context(chosen.prepare(model, graph.example, threads=threads))
        taken = time_interleaved(runners, rounds=rounds, seconds=SECONDS, threads=threads)
        return np.array([taken[name].low for name in runners])


def fitted(latency: Latency, cost: CostModel, widths: Sequence[Widths], ms: Floats) -> Latency:
    """The latency with its fit to whole models, and the error of each predicted from the others."""
    features = np.array([cost.latency_features(w) for w in widths])
    left_out = [
        float(features[i] @ _solve(np.delete(features, i, 0), np.delete(ms, i)) / ms[i] - 1) for i in range(len(ms))
    ]
    fit = tuple(_solve(features, ms).tolist())
    return replace(latency, fit=fit, error=float(np.median(np.abs(left_out))))


def _solve(features: Floats, ms: Floats) -> Floats:
    """Non-negative, of the least relative error; tables count as they are where whole models do not say otherwise."""
    tables = np.array([name not in ("constant", "activations", "weights") for name in FEATURES])
    share = features.mean(0) / ms.mean()
    prior = np.diag(np.where(tables, share, 0.0)) * TRUST
    found: Floats = nnls(np.vstack([features / ms[:, None], prior]), np.append(np.ones(len(ms)), prior.sum(1)))[0]
    return found
