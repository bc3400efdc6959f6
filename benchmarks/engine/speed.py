"""CPU seconds from a model to a pruned model, ours against Torch-Pruning's, on one thread.

    make bench-engine        or        python benchmarks/engine/speed.py --models resnet50 vit_b_16

Each repeat is a fresh process that prunes one copy of the model with either toolkit, in alternating order (once.py).
Results are written only when all models were run.
"""

import argparse
import statistics

from harness import fresh, spread, write

MODELS = ("resnet18", "resnet50", "resnet152", "vit_b_16", "densenet121", "densenet201")
PEER_REPEATS = {"densenet201": 2}  # half a minute each


def row(model, repeats, size):
    """Both sides' seconds on one model."""
    runs = {"ours": [], "theirs": []}
    for repeat in range(repeats):
        sides = ["ours", "theirs"] if repeat < PEER_REPEATS.get(model, repeats) else ["ours"]
        found = fresh("once.py", model, *(reversed(sides) if repeat % 2 else sides), "--size", str(size))
        for side in sides:
            runs[side].append(found[side])
    cpu, wall = ({side: spread([r[of] for r in runs[side]]) for side in runs} for of in ("cpu", "wall"))
    return {
        "model": model,
        "ops": found["ops"],
        "cpu": cpu,
        "wall": wall,
        "ratio": round(cpu["ours"]["median"] / cpu["theirs"]["median"], 3),
        "wall_ratio": round(wall["ours"]["median"] / wall["theirs"]["median"], 3),
        "steps": {side: medians(found) for side, found in runs.items()},
        "params_kept": {side: round(found[0]["params_kept"], 3) for side, found in runs.items()},
    }


def medians(runs):
    """Median seconds by step."""
    return {step: round(statistics.median(r["steps"][step] for r in runs), 4) for step in runs[0]["steps"]}


def show(found):
    both = "  ".join(f"{side} {s['median']:7.3f} s ({s['min']:.3f}-{s['max']:.3f})" for side, s in found["cpu"].items())
    steps = "  ".join(f"{step} {seconds:.3f}" for step, seconds in found["steps"]["ours"].items())
    ratio = f"ratio {found['ratio']:.2f} (wall {found['wall_ratio']:.2f})"
    print(f"{found['model']:12} {found['ops']:5} ops  {both}  {ratio}   ours: {steps}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="height and width of the input")
    options = parser.parse_args()
    rows = []
    for model in options.models:
        rows.append(row(model, options.repeats, options.size))
        show(rows[-1])
    mean = statistics.geometric_mean(r["ratio"] for r in rows)
    print(f"geometric mean of ours/theirs: {mean:.3f}")
    if set(options.models) >= set(MODELS):
        figures = {
            "unit": "CPU seconds of one thread; wall seconds beside",
            "input": options.size,
            "geometric_mean_ratio": round(mean, 3),
            "rows": rows,
        }
        write("speed", figures, ("torch-pruning", "torchvision"))


if __name__ == "__main__":
    main()
