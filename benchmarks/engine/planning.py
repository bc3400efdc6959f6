"""Seconds that a plan takes once scores are there: each allocator on ResNet-152 and on the shape of Llama-7B.

    make bench-engine        or        python benchmarks/engine/planning.py --profile knapsack --model resnet152

Scores are random; the cost model is made anew, as each `allocate` makes it. Each figure is of a fresh process, and the
median of several; weights of the Llama are on the meta device.
"""

import argparse
import cProfile
import json
import pstats
import statistics
import sys
import time
import warnings

import torch
from harness import fresh, spread, write
from subjects import subject

import secateur
from secateur.testing.allocator import random_scores

MODELS = ("resnet152", "llama-7b")
ALLOCATORS = ("ranked", "uniform", "local", "isomorphic", "knapsack")
BUDGETS = ({"macs": 0.5}, {"macs": 0.6, "params": 0.5})


def traced(model):
    """The graph and random scores."""
    if model == "llama-7b":
        net, example = subject(model)
    else:
        with torch.device("meta"):
            net, _ = subject(model)
        example = torch.zeros(1, 3, 224, 224, device="meta")
    graph = secateur.trace(net, example)
    return graph, random_scores(graph)


def once(model, allocators):
    """Print, as JSON, the units, the groups and the seconds of each allocator at each budget."""
    graph, scores = traced(model)
    row = {"groups": len(graph.groups), "units": sum(g.size for g in graph.groups), "seconds": {}}
    for name in allocators:
        for fields in BUDGETS:
            start = time.perf_counter()
            secateur.allocate(graph, scores, secateur.Budget(**fields), allocator=name)
            row["seconds"][f"{name} {secateur.Budget(**fields)}"] = time.perf_counter() - start
    print(json.dumps(row))


def profile(model, name, top):
    """Where the time of one allocator goes."""
    graph, scores = traced(model)
    profiler = cProfile.Profile()
    profiler.enable()
    secateur.allocate(graph, scores, secateur.Budget(**BUDGETS[0]), allocator=name)
    profiler.disable()
    pstats.Stats(profiler).strip_dirs().sort_stats("cumulative").print_stats(top)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", choices=MODELS, nargs="+", default=MODELS)
    parser.add_argument("--allocator", nargs="+", default=ALLOCATORS)
    parser.add_argument("--once", action="store_true", help="measure in this process, and print JSON")
    parser.add_argument("--profile", metavar="ALLOCATOR")
    parser.add_argument("--top", type=int, default=25, help="lines of the profile")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.profile:
        return profile(options.model[0], options.profile, options.top)
    if options.once:
        return once(options.model[0], options.allocator)
    figures = {"unit": "seconds of one thread, after scoring", "models": {}}
    for model in options.model:
        asked = ["--once", "--model", model, "--allocator", *options.allocator]
        rows = [fresh("planning.py", *asked) for _ in range(options.repeats)]
        seconds = {key: spread([r["seconds"][key] for r in rows]) for key in rows[0]["seconds"]}
        figures["models"][model] = {**{k: rows[0][k] for k in ("groups", "units")}, "seconds": seconds}
        for key, values in seconds.items():
            print(
                f"{model:10} {key:28} {values['median']:7.3f} s   {values['min']:.3f} to {values['max']:.3f}",
                flush=True,
            )
    if tuple(options.model) == MODELS and tuple(options.allocator) == ALLOCATORS:
        write("planning", figures, ("torchvision", "transformers"))
    slow = statistics.fsum(v["median"] > 1 for m in figures["models"].values() for v in m["seconds"].values())
    return sys.exit(f"{slow:.0f} figures are above 1 s") if slow else None


if __name__ == "__main__":
    main()
