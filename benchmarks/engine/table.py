"""Write docs/engine.md from the stored results of the other scripts here.

python benchmarks/engine/table.py
"""

import json

from harness import HERE, RESULTS

PAGE = HERE.parents[1] / "docs" / "engine.md"

INTRO = """# Speed and memory of the engine

Written by `make bench-engine` from `benchmarks/results/engine_*.json`, made by `benchmarks/engine/`. Random weights,
one thread, a fresh process for each run. CPU seconds, because others may work on the machine; wall seconds of the
comparison are in its JSON file. Torchvision's models, batch 1, 224 x 224. Seconds are medians (smallest-largest)."""

SPEED = """## Against Torch-Pruning

Ours: trace, L2 scores, half of every group, cut, without the check after it; the model is copied, the caller's stays.
Theirs: `BasePruner` built and stepped once, L2, ratio 0.5, classifier ignored, heads of attention given; it prunes in
place. Imports and building the model count for neither; both prune a small net first, and go first in turn. "Params"
is the fraction of the parameters kept: where the two differ, they did not prune the same layers."""

GROWTH = """## Growth

The exponent is the slope of log seconds over log ops (ATen ops of one forward); 1 is linear."""

CHECK = """## The check

Seconds of one check of a cut model, and how many dense forwards that is."""

MEMORY = """## Memory

Above the process with all imports done. The C library may keep freed blocks, so runs differ; "giving back" is a run in
which it does not. The limit is 1.3 times the dense and the cut model together."""


def stored(name):
    """The figures that a script wrote."""
    return json.loads((RESULTS / f"engine_{name}.json").read_text())


def rows(titles, body):
    """A Markdown table; all columns but the first are figures."""
    return [
        f"| {' | '.join(titles)} |",
        "|---" + "|---:" * (len(titles) - 1) + "|",
        *(f"| {' | '.join(r)} |" for r in body),
    ]


def ranged(found, digits=2):
    """Median (smallest-largest)."""
    return f"{found['median']:.{digits}f} ({found['min']:.{digits}f}-{found['max']:.{digits}f})"


def machine(figures):
    on = figures["environment"]
    named = ("Processor", "CPUs", "Platform", "Python", "torch", "torchvision", "torch-pruning")
    return [
        ", ".join(f"{name} {on[name]}" for name in named) + f". Load of the machine at the start: {on['Load before']}."
    ]


def speed(figures):
    body = [
        [r["model"], str(r["ops"]), ranged(r["cpu"]["ours"]), ranged(r["cpu"]["theirs"]), f"{r['ratio']:.2f}"]
        + [f"{r['params_kept'][side]:.2f}" for side in ("ours", "theirs")]
        for r in figures["rows"]
    ]
    titles = ["Model", "Ops", "Ours, s", "Theirs, s", "Ours / theirs", "Params, ours", "theirs"]
    mean = f"Geometric mean of ours / theirs: {figures['geometric_mean_ratio']:.2f}."
    return [SPEED, "", *rows(titles, body), "", mean]


def growth(figures):
    lines = [GROWTH, ""]
    body = [
        [kind, ", ".join(f"{r['ops']}: {r['median']:.2f} s" for r in found["rows"])]
        + [f"{found['exponents'][over]:.2f}" for over in ("all", "last two")]
        for kind, found in figures["series"].items()
    ]
    both = figures["densenet"]
    told = (
        f"DenseNet-201 takes {both['seconds_ratio']:.2f} times DenseNet-121, for {both['ops_ratio']:.2f} times the ops."
    )
    return [*lines, *rows(["Series", "Ops: seconds", "Exponent", "Of the two largest"], body), "", told]


def check(figures):
    body = [
        [r["model"], of, f"{r[of]['median']:.2f}", f"{r[of]['over_float32']:.1f}", f"{r[of]['over_float64']:.1f}"]
        for r in figures["rows"]
        for of in ("full", "block")
    ]
    return [CHECK, "", *rows(["Model", "Check", "Seconds", "Float32 forwards", "Float64 forwards"], body)]


def memory(figures):
    cases = {name: found for name, found in figures.items() if "allowed_mb" in found}
    body = [
        [
            name,
            f"{f['dense_mb']:.0f} + {f['cut_mb']:.0f}",
            ranged(f["peak_mb"], 0),
            f"{f['peak_giving_back_mb']:.0f}",
            f"{f['allowed_mb']:.0f}",
            "met" if f["within"] else "missed",
        ]
        for name, f in cases.items()
    ]
    titles = ["Pruning", "Dense + cut, MB", "Peak, MB", "Giving back, MB", "Limit, MB", "Limit"]
    meta = figures["llama-7b on the meta device"]
    told = (
        f"A Llama of 7B's shape ({meta['parameters'] / 1e9:.1f} billion parameters) on the meta device is traced into "
        f"{meta['groups']} groups in {meta['cpu_seconds']:.1f} s and {meta['peak_mb']:.0f} MB."
    )
    return [MEMORY, "", *rows(titles, body), "", told]


def main():
    found = {name: stored(name) for name in ("speed", "growth", "verify", "memory")}
    parts = [
        [INTRO, "", *machine(found["speed"])],
        speed(found["speed"]),
        growth(found["growth"]),
        check(found["verify"]),
        memory(found["memory"]),
    ]
    PAGE.write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
    print(f"written: {PAGE.relative_to(HERE.parents[1])}")


if __name__ == "__main__":
    main()
