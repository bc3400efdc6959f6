"""CPU seconds of the checks after a cut, against one dense forward in float32 and in float64.

make bench-engine        or        python benchmarks/engine/verify_cost.py
"""

import argparse
import copy
import gc
import json
import time

import torch
from harness import fresh, spread, write
from once import WARM_UP
from subjects import subject

import secateur
from secateur.allocation.uniform import Uniform
from secateur.surgery.blocks import verify_blocks
from secateur.surgery.verify import verify

MODELS = ("resnet50", "vit_b_16")
CHECKS = {"full": verify, "block": verify_blocks}
FORWARDS = ("float32", "float64")


def planned(model, example):
    """Graph, plan (half of every group) and the cut model."""
    graph = secateur.trace(model, example)
    plan = secateur.allocate(graph, secateur.score(graph, "l2"), allocator=Uniform(keep=0.5))
    return graph, plan, secateur.cut(graph, plan, verify="off").model


def seconds(work, repeats):
    """CPU seconds of each of `repeats` calls, after one that does not count."""
    taken = []
    for _ in range(repeats + 1):
        gc.collect()
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return taken[1:]


def measure(name, repeats):
    """Seconds of the checks and of the forwards, batch 1, 224 x 224."""
    small = planned(*subject(WARM_UP))
    for check in CHECKS.values():
        check(*small)
    model, example = subject(name)
    graph, plan, small = planned(model, example)
    double, wide = copy.deepcopy(model).double(), example.double()
    with torch.no_grad():
        return {
            **{name: seconds(lambda check=check: check(graph, plan, small), repeats) for name, check in CHECKS.items()},
            "float32": seconds(lambda: model(example), repeats),
            "float64": seconds(lambda: double(wide), repeats),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", metavar="MODEL", help="this model, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.one:
        print(json.dumps(measure(options.one, options.repeats)))
        return
    rows = []
    for model in MODELS:
        found = fresh("verify_cost.py", "--one", model, "--repeats", str(options.repeats))
        row = {"model": model, **{of: spread(values) for of, values in found.items()}}
        for check in CHECKS:
            row[check] |= {f"over_{to}": round(row[check]["median"] / row[to]["median"], 2) for to in FORWARDS}
        rows.append(row)
        print(f"{model:10} dense forward " + "  ".join(f"{to} {row[to]['median']:.3f} s" for to in FORWARDS))
        for check in CHECKS:
            told = ", ".join(f"{row[check][f'over_{to}']} times {to}" for to in FORWARDS)
            print(f"{'':10} {check:5} check {row[check]['median']:.3f} s = {told}", flush=True)
    write("verify", {"unit": "CPU seconds of one thread", "rows": rows}, ("torchvision",))


if __name__ == "__main__":
    main()
