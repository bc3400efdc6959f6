"""What `secateur oracle` and `secateur sensitivity` store, made up."""

import random

HOSTILE = "<script>alert(1)</script>"
LONG = "encoder.layers.encoder_layer_11.self_attention.out_proj"
COMMON = {
    "model": f"net{HOSTILE}",
    "weights": None,
    "data": "digits",
    "seed": 0,
    "images": 512,
    "command": "secateur oracle --model 'a b'",
    "seconds": 12.3,
    "environment": {"torch": "2.0", "secateur": "0.1"},
}


def estimate(value=0.5, low=0.25, high=0.75, why=""):
    return {"value": value, "low": low, "high": high, "why": why}


def line(name, **overall):
    every = {s: estimate() for s in ("pearson", "spearman", "kendall")}
    return {"name": name, "overall": every | overall, "within": every, "units": 40, "groups": 3}


def oracle(criteria=("l1", "taylor", f"x{HOSTILE}"), units=40):
    generator = random.Random(0)
    names = ["conv1", LONG, f"g{HOSTILE}"]
    why = "all scores are the same"
    lines = [line(name) for name in criteria]
    lines[0] = line(criteria[0], spearman=estimate(0.9, 0.8, 0.95), kendall=estimate(None, None, None, why))
    return {
        **COMMON,
        "dense_loss": 0.25,
        "against": "squared",
        "resamples": 2000,
        "refused": {"odd": f"because of {HOSTILE}"},
        "correlations": lines,
        "groups": [
            {"group": n, "kind": "channel", "units": 32, "measured": m}
            for n, m in zip([*names, "rest"], [units // 2, units - units // 2, 0, 0], strict=True)
        ],
        "units": [
            {
                "group": names[i % 2],
                "unit": i // 2,
                "change": generator.gauss(0, 1),
                "scores": {c: generator.random() for c in criteria},
            }
            for i in range(units)
        ],
    }


def sensitivity(groups=7, metric="accuracy", budget=None):
    generator = random.Random(0)
    ratios = [0.1, 0.3, 0.5, 0.7, 0.9]
    names = ["conv1", LONG, f"g{HOSTILE}", *(f"layer{i}.0.conv1" for i in range(groups - 3))][:groups]

    def curve(top):
        return sorted(top * generator.random() for _ in ratios)

    return {
        **COMMON,
        "criterion": "l1",
        "ratios": ratios,
        "metric": metric,
        "max_drop": None if budget else 0.01,
        "budget": budget,
        "dense": {"accuracy": 0.915, "loss": 0.0123},
        "groups": [
            {
                "group": n,
                "kind": "channel",
                "units": 64,
                "values": {"accuracy": curve(0.91), "loss": curve(9.0)[::-1]},
                "keep": 0.7,
                "kept": 44,
            }
            for n in names
        ],
        "before": {"macs": 1000, "params": 10, "bytes": 40},
        "after": {"macs": 700, "params": 8, "bytes": 32},
    }
