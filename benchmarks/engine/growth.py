"""How our CPU seconds grow with the model: exponents over depth, DenseNet-201 against 121, and a profile.

    make bench-engine        or        python benchmarks/engine/growth.py --profile densenet121

The exponent is the slope of log seconds over log ops (ATen ops of one forward); 1 is linear. Each figure is the median
of fresh processes (once.py). `--profile` takes any model of subjects.py, and times nothing else.
"""

import argparse
import cProfile
import pstats
import statistics

import numpy as np
import torch
from harness import fresh, spread, write
from once import WARM_UP, ours
from subjects import subject

import secateur

SERIES = {"chain": (40, 80, 160, 320, 640), "decoder": (12, 24, 48, 96)}
DENSENETS = ("densenet121", "densenet201")


def timed(model, repeats):
    """Ops, seconds and seconds by step of one model."""
    runs = [fresh("once.py", model, "ours") for _ in range(repeats)]
    steps = {s: round(statistics.median(r["ours"]["steps"][s] for r in runs), 4) for s in runs[0]["ours"]["steps"]}
    row = {"model": model, "ops": runs[0]["ops"], **spread([r["ours"]["cpu"] for r in runs]), "steps": steps}
    told = "  ".join(f"{step} {seconds:.3f}" for step, seconds in steps.items())
    print(f"{model:12} {row['ops']:6} ops  {row['median']:8.3f} s   {told}", flush=True)
    return row


def slope(rows, seconds):
    """The exponent of `seconds(row)` over ops."""
    return round(float(np.polyfit(np.log([r["ops"] for r in rows]), np.log([seconds(r) for r in rows]), 1)[0]), 3)


def exponents(rows):
    """Over all sizes, between the two largest, and of each step over all sizes."""
    return {
        "all": slope(rows, lambda r: r["median"]),
        "last two": slope(rows[-2:], lambda r: r["median"]),
        **{step: slope(rows, lambda r, step=step: max(r["steps"][step], 1e-4)) for step in rows[0]["steps"]},
    }


def profile(model, top):
    """Where the time goes: our functions by cumulative time, then all functions by their own.

    A model without weights (on the meta device) is only traced.
    """
    ours(*subject(WARM_UP))
    net, example = subject(model)
    profiler = cProfile.Profile()
    profiler.enable()
    if example.is_meta:
        secateur.trace(net, example)
    else:
        ours(net, example)
    profiler.disable()
    print(f"{model}, everything slowed by the profiler")
    stats = pstats.Stats(profiler).strip_dirs()
    own = pstats.Stats(profiler)
    own.sort_stats("cumulative").print_stats("secateur", top)
    stats.sort_stats("tottime").print_stats(top)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--series", nargs="+", choices=[*SERIES, "densenet"], default=[*SERIES, "densenet"])
    parser.add_argument("--profile", metavar="MODEL")
    parser.add_argument("--top", type=int, default=25, help="lines of each profile table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.profile:
        return profile(options.profile, options.top)
    figures = {"unit": "CPU seconds of one thread", "series": {}}
    for kind in (k for k in SERIES if k in options.series):
        rows = [timed(f"{kind}:{depth}", options.repeats) for depth in SERIES[kind]]
        figures["series"][kind] = {"exponents": exponents(rows), "rows": rows}
        print(f"{kind}: exponents {figures['series'][kind]['exponents']}")
    if "densenet" in options.series:
        small, large = (timed(model, options.repeats) for model in DENSENETS)
        ratio, of_ops = large["median"] / small["median"], large["ops"] / small["ops"]
        figures["densenet"] = {"seconds_ratio": round(ratio, 3), "ops_ratio": round(of_ops, 3), "rows": [small, large]}
        print(f"DenseNet-201 over 121: {ratio:.2f} times the seconds for {of_ops:.2f} times the ops")
    if set(options.series) >= {*SERIES, "densenet"}:
        write("growth", figures, ("torchvision",))
    return None


if __name__ == "__main__":
    main()
