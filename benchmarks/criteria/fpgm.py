"""Seconds of FPGM scores for all groups of a network, ours against Torch-Pruning's, in one process on one thread.

    OMP_NUM_THREADS=1 python benchmarks/criteria/fpgm.py

Ours: `score(graph, "fpgm")`. Theirs: `FPGMImportance` called on each of the groups that their graph lists, which are as
many; listing them, tracing and imports count for neither. The two alternate after one warm-up each. CPU seconds are
compared, because others may work on the machine; wall seconds are told too. Random weights of torchvision.
"""

import argparse
import json
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

import torch
from harness import LOAD, RESULTS, processor, spread
from subjects import subject
from torch import nn

import secateur
from secateur.experiments.environment import environment

LIMIT = 0.3  # of their time, that ours may take on ResNet-50


def ours(model, example):
    """What scores the model once, and how many groups that are."""
    graph = secateur.trace(model, example)
    return lambda: secateur.score(graph, "fpgm"), len(graph.groups)


def theirs(model, example):
    """What scores the model once, and how many groups that are; the classifier is left out, as it is in ours."""
    import torch_pruning as tp

    dependencies = tp.DependencyGraph().build_dependency(model, example_inputs=example)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    kinds = [nn.Conv2d, nn.Linear]
    groups = list(dependencies.get_all_groups(ignored_layers=head, root_module_types=kinds))
    importance = tp.importance.FPGMImportance()
    return lambda: [importance(group) for group in groups], len(groups)


def seconds(action):
    """(CPU, wall) of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", help="a model of torchvision")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, example = subject(options.model)
    sides = {side.__name__: side(model, example) for side in (ours, theirs)}
    runs = {name: [] for name in sides}
    for action, _ in sides.values():
        action()
    for repeat in range(options.repeats):
        for name in reversed(sides) if repeat % 2 else sides:
            runs[name].append(seconds(sides[name][0]))
    figures = {"model": options.model, "groups": {name: count for name, (_, count) in sides.items()}}
    for i, clock in enumerate(("cpu", "wall")):
        each = {name: [run[i] for run in found] for name, found in runs.items()}
        ratio = statistics.median(each["ours"]) / statistics.median(each["theirs"])
        pairs = spread([a / b for a, b in zip(each["ours"], each["theirs"], strict=True)], 3)
        figures[clock] = {name: spread(values) for name, values in each.items()}
        figures[clock] |= {"ratio_of_medians": round(ratio, 3), "ratio_by_pair": pairs}
        told = "  ".join(
            f"{n} {s['median']:.3f} s ({s['min']:.3f}-{s['max']:.3f})" for n, s in list(figures[clock].items())[:2]
        )
        print(f"{clock:4}  {told}  ours / theirs {ratio:.3f} (by pair {pairs['min']:.3f}-{pairs['max']:.3f})")
    if options.model == "resnet50":
        write({"limit": LIMIT, "within": figures["cpu"]["ratio_of_medians"] <= LIMIT, **figures})


def write(figures):
    """To benchmarks/results/criteria_fpgm.json, with what they were measured on."""
    on = {**environment(), "Processor": processor(), "Load before": LOAD, "torch-pruning": version("torch-pruning")}
    path = RESULTS / "criteria_fpgm.json"
    path.write_text(json.dumps({"environment": on, **figures}, indent=1) + "\n")
    print(
        f"written: {path.relative_to(RESULTS.parent.parent)}; limit {LIMIT}: {'met' if figures['within'] else 'missed'}"
    )


if __name__ == "__main__":
    main()
