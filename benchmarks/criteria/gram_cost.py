"""What Gram matrices cost on ResNet-56 of CIFAR's shape: the pass over the data, the memory, the scores made from them.

    python benchmarks/criteria/gram_cost.py

Told apart from other evidence, for they are the largest kind: (inputs * kernel)^2 float64 numbers a layer. The pass:
`collect` of `inputs_gram` alone, ten positions an image, against plain forwards of the same batches, in turns in one
process with one thread; CPU seconds, because others may work on the machine. Peak memory is that of a fresh process for
each case, above the process with the model traced and the batches made. Linux only. Scores: CPU seconds of a criterion
for all groups from evidence that is there, and those of the group that takes longest. Weights are random.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))
import harness
from memory import MB, reset, resident

import secateur
from secateur.evidence.collect import collect
from secateur.experiments.models import build

HERE = Path(__file__).resolve()
CRITERIA = ("thinet", "thinet-ls", "lasso", "obs")
CASES = ("forward", "gram")


def subject(count, size=64):
    """(graph of a ResNet-56, batches)."""
    torch.manual_seed(0)
    batches = [(torch.randn(size, 3, 32, 32), None) for _ in range(count)]
    return secateur.trace(build("resnet56").eval(), batches[0][0][:1]), batches


def work(case, graph, batches):
    """One pass over the batches; what was collected."""
    if case == "gram":
        return collect(graph, {"inputs_gram"}, batches=batches)
    with torch.no_grad():
        for inputs, _ in batches:
            graph.model(inputs)
    return None


def cpu(action):
    """CPU seconds of a call, and what it gave."""
    gc.collect()
    start = time.process_time()
    made = action()
    return time.process_time() - start, made


def passes(graph, batches, repeats):
    """Seconds of each case, in turns, and the evidence."""
    taken, evidence = {case: [] for case in CASES}, None
    for repeat in range(repeats + 1):
        for case in reversed(CASES) if repeat % 2 else CASES:
            seconds, made = cpu(lambda case=case: work(case, graph, batches))
            evidence = made or evidence
            if repeat:  # the first round warms up
                taken[case].append(seconds)
    ratio = statistics.median(g / f for g, f in zip(taken["gram"], taken["forward"], strict=True))
    return {case: harness.spread(each, 3) for case, each in taken.items()} | {"ratio": round(ratio, 2)}, evidence


def scores(graph, evidence, repeats):
    """Seconds that each criterion takes for all groups together, and for the one that takes longest."""
    found = {}
    for name in CRITERIA:
        criterion = secateur.criteria()[name]()
        rounds = [
            [cpu(lambda g=g: criterion.score(g, evidence))[0] for g in graph.groups]  # noqa: B023  called at once
            for _ in range(repeats)
        ]
        found[name] = {
            **harness.spread([sum(each) for each in rounds], 3),
            "longest group": round(statistics.median(max(each) for each in rounds), 3),
        }
    return found


def peak(case, count):
    """MB above the process with the model traced and the batches made."""
    graph, batches = subject(count)
    before = reset()
    made = work(case, graph, batches)
    return {"peak_mb": (resident("VmHWM") - before) / MB, "kept": made is not None}


def held(evidence):
    """MB of the Gram matrices and sums, and of the largest layer."""
    layers = [sum(t.nbytes for t in fields.values()) for fields in evidence.values["inputs_gram"].values()]
    return {"layers": len(layers), "all_mb": round(sum(layers) / MB, 1), "largest_mb": round(max(layers) / MB, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--one", choices=CASES, help="peak memory of this, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(peak(options.one, options.batches)))
        return
    graph, batches = subject(options.batches)
    seconds, evidence = passes(graph, batches, options.repeats)
    script = str(Path("..") / "criteria" / HERE.name)
    runs = {c: [harness.fresh(script, "--one", c, "--batches", str(options.batches)) for _ in range(3)] for c in CASES}
    figures = {
        "images": 64 * options.batches,
        "seconds of the pass": seconds,
        "held": held(evidence),
        "peak_mb": {case: harness.spread([r["peak_mb"] for r in each], 1) for case, each in runs.items()},
        "seconds of scores": scores(graph, evidence, options.repeats),
    }
    for what, found in figures.items():
        print(f"{what}: {found}")
    harness.write("gram", {"unit": "CPU seconds of one thread; MB of 2^20 bytes", **figures})


if __name__ == "__main__":
    main()
