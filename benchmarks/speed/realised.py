"""Realised speed at half of the MACs: widths that fit the hardware against plain ranked ones and the peer's.

    python benchmarks/speed/realised.py [--models resnet50 mobilenet_v2] [--batches 1 8] [--threads 1 2] [--rounds 15]

In every cell (model, batch, threads) all nets run on onnxruntime in turn in one run, and speed-ups are medians of the
ratios by rounds. "aware": allocator "quickest" on measured latency, at 48.5 to 50 % of the MACs. "ranked": one ranking
by L2, no rounding. "peer": torch-pruning's global ranking by its group magnitude, its ratio found by bisection to just
meet 50 % of the MACs, round_to 1 and 8.
Rows land in benchmarks/results/speed_realised.json one by one.
"""

import argparse
import copy
import json
from contextlib import ExitStack
from pathlib import Path

from torch import nn

import nets
import secateur
from secateur.cost.cost import CostModel
from secateur.engines.base import ENGINES
from secateur.engines.timing import time_interleaved

RESULTS = Path(__file__).parents[1] / "results" / "speed_realised.json"
ENGINE = "onnxruntime"
HALF = 0.5


def aware(graph, latency):
    """The plan of the least predicted latency among those that keep about half of the MACs."""
    scores, budget = secateur.score(graph, "l2"), secateur.Budget(macs=HALF, engine=ENGINE)
    return secateur.allocate(graph, scores, budget, allocator="quickest", latency=latency)


def ranked(graph):
    """One ranking by L2."""
    return secateur.allocate(graph, secateur.score(graph, "l2"), secateur.Budget(macs=HALF))


def peer(model, example, round_to):
    """torch-pruning's own, at the largest of its widths that meet half of the MACs."""
    import torch_pruning as tp

    def cut(ratio):
        net = copy.deepcopy(model)
        head = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
        options = {"global_pruning": True, "round_to": round_to, "ignored_layers": [head]}
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        tp.pruner.BasePruner(net, example, importance=importance, pruning_ratio=ratio, **options).step()
        return net, CostModel(secateur.trace(net, example)).dense().macs

    limit, low, high = HALF * CostModel(secateur.trace(model, example)).dense().macs, 0.0, 0.95
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if cut(middle)[1] <= limit else (middle, high)
    return cut(high)[0]


def row(name, batch, threads, rounds):
    """Speed-ups over dense in one cell."""
    model, one = nets.model(name, 1)
    _, example = nets.model(name, batch)
    graph = secateur.trace(model, example)
    latency = secateur.measure_latency(graph, ENGINE, threads=threads)
    plans = {"aware": aware(graph, latency), "ranked": ranked(graph)}
    made = {"dense": model} | {n: secateur.cut(graph, p, verify="off").model for n, p in plans.items()}
    made |= {f"peer, round_to={r}": peer(model, one, r) for r in (None, 8)}
    macs = {n: CostModel(secateur.trace(net, example)).dense().macs for n, net in made.items()}
    engine = ENGINES.make(ENGINE)
    with ExitStack() as held:
        runners = {n: held.enter_context(engine.prepare(net, example, threads=threads)) for n, net in made.items()}
        taken = time_interleaved(runners, rounds=rounds, threads=threads)
        ratios = {n: taken.ratio("dense", n) for n in made if n != "dense"}
    facts = {"model": name, "batch": batch, "threads": threads, "about": dict(latency.about)}
    facts |= {"dense_ms": taken["dense"].median, "prediction_error": latency.error}
    cells = {
        n: {"macs": macs[n] / macs["dense"], "speed_up": r.median, "quartiles": r.spread} for n, r in ratios.items()
    }
    return facts | {"cells": cells}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in options.models:
        for batch in options.batches:
            for threads in options.threads:
                found = row(name, batch, threads, options.rounds)
                key = (name, batch, threads)
                rows = [r for r in rows if (r["model"], r["batch"], r["threads"]) != key] + [found]
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
                print(name, batch, threads, f"dense {found['dense_ms']:.2f} ms")
                for n, cell in found["cells"].items():
                    share = cell["speed_up"] * HALF
                    print(
                        f"  {n}: {cell['speed_up']:.2f}x, {share:.2f} of 2x, {cell['macs']:.3f} of the MACs", flush=True
                    )


if __name__ == "__main__":
    main()
