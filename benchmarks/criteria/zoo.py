"""Every criterion on models of the public zoo: of how many groups it scores the units, and why it refuses others.

    python benchmarks/criteria/zoo.py [rows]

Random weights, two batches of two random inputs, the mean square of the first output as the loss; one pass collects
everything. What is neither finite scores nor a refusal by name ends the run. One line a model in
benchmarks/results/criteria_zoo.jsonl; those that are there are not run again. `table.py` shows them.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import torch

import secateur
from secateur.errors import SecateurError
from secateur.evidence.collect import collect
from secateur.graph.example import results

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

import models

OUT = Path(__file__).parents[1] / "results" / "criteria_zoo.jsonl"
SMALL = (
    "mobilenet_v2", "shufflenet_v2_x0_5", "regnet_y_400mf", "resnet18", "ghostnet_050", "mobilevitv2_050",
    "edgenext_xx_small", "starnet_s1", "resnest14d", "nfnet_l0", "swiftformer_xs", "sequencer2d_s",
    "xcit_nano_12_p16_224", "deit_tiny_patch16_224",
)  # fmt: skip


def loss(output, target):
    return next(t for t in results(output) if t.is_floating_point()).float().square().mean()


def outcomes(graph, criteria, evidence):
    """Criterion -> how many groups it scores, and of the others how many are refused for what."""
    found = {}
    for name, cls in criteria.items():
        scored, why = 0, Counter()
        for group in graph.groups:
            try:
                scores = cls().score(group, evidence)
            except SecateurError as error:
                why[str(error).replace(group.name, "...")] += 1
                continue
            if scores.shape != (group.size,) or not torch.isfinite(scores).all():
                raise SystemExit(f"{name} gives group {group.name!r} the scores {scores}")
            scored += 1
        found[name] = {"scored": scored, "refused": dict(why.most_common(3))}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*")
    torch.set_num_threads(1)
    small = (*SMALL, *(row for row in models.TRANSFORMERS))
    criteria = {n: c for n, c in secateur.criteria().items() if c.units != "depth"}
    done = {json.loads(line)["model"] for line in OUT.read_text().splitlines()} if OUT.exists() else set()
    for row in parser.parse_args().rows or small:
        if row in done:
            continue
        start = time.perf_counter()
        graph = secateur.trace(models.build(row), models.example(row))
        data = [(models.example(row, 2, seed), None) for seed in (1, 2)]
        needs = set().union(*(c().needs for c in criteria.values()))
        evidence = collect(graph, needs, batches=data, loss=loss)
        found = outcomes(graph, criteria, evidence)
        line = {"model": row, "groups": len(graph.groups), "criteria": found}
        with OUT.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(row, len(graph.groups), f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
