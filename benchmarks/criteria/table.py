"""Write docs/criteria.md from the stored results of cifar10.py and zoo.py.

python benchmarks/criteria/table.py
"""

import json
from collections import Counter
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import spearmanr

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "criteria.md", ROOT / "benchmarks" / "results"

INTRO = """# Criteria, on one table

Written by `python benchmarks/criteria/table.py` from `benchmarks/results/criteria_*.jsonl`, which
`SECATEUR_DATA=... python benchmarks/criteria/cifar10.py` makes, one row at a time.

Pretrained CIFAR-10 networks, cut once to at most half of their MACs by one ranking over all groups, the trunk with its
padded shortcuts among them. Top-1 accuracy in percent on the 9,979 test images of the data at hand (whole: ResNet-20
91.73, ResNet-56 93.39): at the cut; after least-squares reconstruction from 1,024 training images; after one epoch
from the plain cut (SGD, one-cycle to 0.02, batch 128, crop and flip). Seed 0, but where a table says otherwise.
"Seconds" is one thread of a shared machine, all data included; "images" were looked at to score ("labels": with their
classes). A blank was not run."""

INNER = """## Inside the blocks only, score per MAC^0.6

The trunk stays whole and `per_macs=0.6` favours what is cheap to keep: the setting of the README, where reconstruction
does best before any fine-tuning."""


ZOO = """## On other architectures

`python benchmarks/criteria/zoo.py`: {models} models of torchvision, timm and transformers with random weights.
"Whole": models of which every group is scored; "groups": how many of all {groups} are. What is not scored is refused by
name, and `frozen=` leaves it out.

{names}."""


def percent(row, field):
    return f"{100 * row[field]:.2f}" if field in row else ""


def table(rows):
    titles = ["criterion", "images", "seconds", "MACs kept", "at the cut", "reconstructed", "after one epoch"]
    lines = [f"| {' | '.join(titles)} |", "|---|---|" + "---:|" * 5]
    kept = [r for r in rows if "refused" not in r]
    for r in sorted(kept, key=lambda r: -r["reconstructed"]):
        labels = any("gradients" in need or need in ("weight_effects", "curvature") for need in r["needs"])
        images = f"{r['images']}{', labels' if labels else ''}" if r["images"] else "none"
        figures = [
            f"{r['seconds']:.2f}",
            f"{100 * r['macs']:.1f}",
            *(percent(r, f) for f in ("at_cut", "reconstructed")),
        ]
        lines.append(f"| `{r['criterion']}` | {images} | {' | '.join([*figures, percent(r, 'finetuned')])} |")
    both = [r for r in kept if "finetuned" in r]
    if len(both) > 2:
        after = [r["finetuned"] for r in both]
        cut, mended = (spearmanr([r[f] for r in both], after).statistic for f in ("at_cut", "reconstructed"))
        lines.append(
            f"\nSpearman's correlation with accuracy after one epoch, over these {len(both)} criteria: at the cut "
            f"{cut:.2f}, reconstructed {mended:.2f}."
        )
    lines += [f"\n`{r['criterion']}` is refused: {r['refused']}" for r in rows if "refused" in r]
    return "\n".join(lines)


def seeds(rows):
    """What other seeds, which choose the images, make of the figures of those criteria that were run with more."""
    held = {}
    for r in rows:
        held.setdefault(r["criterion"], []).append(r)
    lines = ["| criterion | seeds | reconstructed | after one epoch |", "|---|---:|---:|---:|"]
    for name, found in held.items():
        if len(found) > 1:
            figures = (spread([r[f] for r in found if f in r]) for f in ("reconstructed", "finetuned"))
            lines.append(f"| `{name}` | {len(found)} | {' | '.join(figures)} |")
    return ["Mean and standard deviation over seeds:", "\n".join(lines)] if len(lines) > 2 else []


def spread(values):
    """In percent; nothing of one."""
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f}" if len(values) > 1 else ""


def zoo(rows):
    """What criteria score, the most groups first, and the commonest reason why they do not."""
    lines = ["| criterion | whole | groups | refused, most often |", "|---|---:|---:|---|"]
    counted = []
    for name in rows[0]["criteria"]:
        why, each = Counter(), [(r["criteria"][name], r["groups"]) for r in rows]
        for found, _ in each:
            why.update({w.partition(";")[0]: n for w, n in found["refused"].items()})
        whole, scored = sum(f["scored"] == groups for f, groups in each), sum(f["scored"] for f, _ in each)
        counted.append(
            (-scored, name, f"| `{name}` | {whole} | {scored} | {why.most_common(1)[0][0] if why else ''} |")
        )
    names = ", ".join(r["model"] for r in rows)
    text = ZOO.format(models=len(rows), names=names, groups=sum(r["groups"] for r in rows))
    return [text, "\n".join(lines + [line for *_, line in sorted(counted)])]


def main():
    parts = [INTRO]
    stored = {p.stem.removeprefix("criteria_"): p for p in sorted(RESULTS.glob("criteria_resnet*.jsonl"))}
    rows = {model: [json.loads(line) for line in path.read_text().splitlines()] for model, path in stored.items()}
    for model, found in rows.items():
        whole = [r for r in found if r["scope"] == "all"]
        parts += [f"## {model}", table([r for r in whole if r["seed"] == 0]), *seeds(whole)]
    if any(r["scope"] == "inner" for found in rows.values() for r in found):
        parts.append(INNER)
    for model, found in rows.items():
        if inner := [r for r in found if r["scope"] == "inner"]:
            parts += [f"### {model}", table(inner)]
    parts += zoo([json.loads(line) for line in (RESULTS / "criteria_zoo.jsonl").read_text().splitlines()])
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
