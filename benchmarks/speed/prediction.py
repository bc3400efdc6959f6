"""How far predicted latency is from measured, at widths that the fit has not seen.

    python benchmarks/speed/prediction.py [--models resnet50 mobilenet_v2 vit_small] [--engines eager onnxruntime]
        [--threads 1] [--held-back 12]

For each model and engine: tables are measured anew, then whole models, those that the fit is made from and those at
held-back random widths, all in turn in one run, so that a machine that others slow for a while slows both. A row lands
in benchmarks/results/speed_prediction.json as soon as it is there.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import nets
import secateur
from secateur.cost.cost import CostModel
from secateur.latency.calibrate import UNIFORM, fitted, sampled, whole_models
from secateur.latency.measure import SAMPLES

RESULTS = Path(__file__).parents[1] / "results" / "speed_prediction.json"
UNSEEN = 1000  # seed of the held-back widths


def row(name, engine, threads, count):
    """Predicted and measured milliseconds at each of the held-back widths."""
    model, example = nets.model(name)
    graph = secateur.trace(model, example)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        latency = secateur.measure_latency(graph, engine, threads=threads, cache=cache)
    seconds = time.perf_counter() - began
    known = sampled(graph, SAMPLES, 0)
    unseen = sampled(graph, count + len(UNIFORM), UNSEEN)[len(UNIFORM) :]
    measured = whole_models(graph, [*known, *unseen], engine, threads)
    latency = fitted(latency, CostModel(graph, latency), known, measured[:SAMPLES])
    cost, measured = CostModel(graph, latency), measured[SAMPLES:]
    predicted = [cost.at(w).latency_ms for w in unseen]
    errors = np.abs(np.array(predicted) / measured - 1)
    facts = {"model": name, "engine": engine, "threads": threads, "batch": 1, "about": dict(latency.about)}
    facts |= {"seconds_to_measure": seconds, "left_out_error": latency.error}
    facts |= {"median_error": float(np.median(errors)), "worst_error": float(errors.max())}
    return facts | {"predicted_ms": predicted, "measured_ms": measured.tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "mobilenet_v2", "vit_small"])
    parser.add_argument("--engines", nargs="+", default=["eager", "onnxruntime"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-back", type=int, default=12)
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in options.models:
        for engine in options.engines:
            found = row(name, engine, options.threads, options.held_back)
            key = (name, engine, options.threads)
            rows = [r for r in rows if (r["model"], r["engine"], r["threads"]) != key] + [found]
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print({k: v for k, v in found.items() if not isinstance(v, (list, dict))}, flush=True)


if __name__ == "__main__":
    main()
