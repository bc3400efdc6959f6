"""Peak memory: pruning ViT-B/16 with its check, and reading a Llama of 7B's shape that has no weights at all.

    make bench-engine        or        python benchmarks/engine/memory.py

Each figure is from a fresh process, counted above that process with all imports done and a small net pruned, so that
imports made on first use count as imports. Linux only: it reads and resets the kernel's high-water mark of the process.

The C library may keep freed blocks, so runs differ. A run more, in which it gives back every block above 128 KB
(MALLOC_MMAP_THRESHOLD_), says what the engine itself holds at most; whether a limit is met is judged without that.
"""

import argparse
import gc
import json
import time
from pathlib import Path

import torch
from harness import fresh, spread, write
from subjects import llama, subject

import secateur
from secateur.allocation.uniform import Uniform

MB = 2**20
ALLOWED = 1.3  # times the bytes of the dense and the cut model
CHECKS = ("full", "block", "off")
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}
HALF = Uniform(keep=0.5)


def resident(field):
    """Bytes of this process: `VmRSS` now, `VmHWM` at most since `reset`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def reset():
    """Forget the high-water mark; bytes resident now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def size(model):
    """Bytes of parameters and buffers."""
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers()))


def warmed_up():
    """Bytes resident once everything is imported and a small net was pruned."""
    subject("squeezenet1_1", 32)
    small = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    for check in CHECKS:
        secateur.prune(small, torch.randn(1, 8), allocator=HALF, verify=check)
    return reset()


def vit(check):
    """Prune ViT-B/16 to half of every group: peak MB above the imports."""
    before = warmed_up()
    model, example = subject("vit_b_16")
    built = reset() - before
    pruned = secateur.prune(model, example, allocator=HALF, verify=check)
    peak = resident("VmHWM") - before
    return {"peak": peak / MB, "built": built / MB, "dense": size(model) / MB, "cut": size(pruned.model) / MB}


def by_step():
    """The same, step by step, with garbage collected between: peak MB of each."""
    before = warmed_up()
    model, example = subject("vit_b_16")
    peaks = {}

    def run(step, work, *arguments, **options):
        reset()
        result = work(*arguments, **options)
        peaks[step] = round((resident("VmHWM") - before) / MB, 1)
        return result

    graph = run("trace", secateur.trace, model, example)
    scores = run("score", secateur.score, graph)
    plan = run("allocate", secateur.allocate, graph, scores, allocator=HALF)
    for check in reversed(CHECKS):
        run(f"cut, check {check}", secateur.cut, graph, plan, verify=check)
    return peaks


def llama_7b():
    """Read a Llama of 7B's shape on the meta device and find its groups."""
    secateur.trace(llama(1, 32, 64, 4, 2, 50, "meta"), torch.zeros(1, 4, dtype=torch.long, device="meta"))
    before = reset()
    model, example = subject("llama-7b")
    built = reset() - before
    wall, cpu = time.perf_counter(), time.process_time()
    graph = secateur.trace(model, example)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "model_mb": round(built / MB, 1),
        "peak_mb": round((resident("VmHWM") - before) / MB, 1),
        "groups": len(graph.groups),
        "frozen": len(graph.frozen),
    }


def pruning(check, repeats):
    """Peaks of `repeats` fresh processes, and of one more that gives freed memory back."""
    runs = [fresh("memory.py", "--one", check) for _ in range(repeats)]
    peak = spread([r["peak"] for r in runs], 1)
    models = runs[0]["dense"] + runs[0]["cut"]
    return {
        "dense_mb": round(runs[0]["dense"], 1),
        "cut_mb": round(runs[0]["cut"], 1),
        "peak_mb": peak,
        "peak_giving_back_mb": round(fresh("memory.py", "--one", check, **GIVING_BACK)["peak"], 1),
        "allowed_mb": round(ALLOWED * models, 1),
        "over_models": round(peak["median"] / models, 2),
        "within": peak["max"] <= ALLOWED * models,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    cases = {check: lambda check=check: vit(check) for check in CHECKS} | {"steps": by_step, "llama-7b": llama_7b}
    parser.add_argument("--one", choices=cases, help="this case, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(cases[options.one]()))
        return
    figures = {f"vit_b_16, check {check}": pruning(check, options.repeats) for check in CHECKS}
    figures["vit_b_16, peak_mb by step, giving back"] = fresh("memory.py", "--one", "steps", **GIVING_BACK)
    figures["llama-7b on the meta device"] = fresh("memory.py", "--one", "llama-7b")
    for case, found in figures.items():
        print(f"{case}: " + "  ".join(f"{k} {v}" for k, v in found.items()))
    write("memory", {"unit": "MB of 2^20 bytes above the imports", **figures}, ("torchvision", "transformers"))


if __name__ == "__main__":
    main()
