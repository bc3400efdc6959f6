"""Write docs/criteria.md from the stored results of cifar10.py.

python benchmarks/criteria/table.py
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "criteria.md", ROOT / "benchmarks" / "results"

INTRO = """# Criteria, on one table

Written by `python benchmarks/criteria/table.py` from `benchmarks/results/criteria_*.jsonl`, which
`SECATEUR_DATA=... python benchmarks/criteria/cifar10.py` makes, one row at a time.

Pretrained CIFAR-10 networks, cut once to at most half of their MACs by one ranking over all groups, the trunk with its
padded shortcuts among them. Top-1 accuracy in percent on the 9,979 test images of the data at hand (whole: ResNet-20
91.73, ResNet-56 93.39): at the cut; after least-squares reconstruction from 1,024 training images; after one epoch
from the plain cut (SGD, one-cycle to 0.02, batch 128, crop and flip). One seed unless said otherwise. "Seconds" is one
thread of a shared machine, all data included; "images" were looked at to score ("labels": with their classes).
A blank was not run."""

INNER = """## Inside the blocks only, score per MAC^0.6

The trunk stays whole and `per_macs=0.6` favours what is cheap to keep: the setting of the README, where reconstruction
does best before any fine-tuning."""


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
    lines += [f"\n`{r['criterion']}` is refused: {r['refused']}" for r in rows if "refused" in r]
    return "\n".join(lines)


def main():
    parts = [INTRO]
    stored = {p.stem.removeprefix("criteria_"): p for p in sorted(RESULTS.glob("criteria_*.jsonl"))}
    rows = {model: [json.loads(line) for line in path.read_text().splitlines()] for model, path in stored.items()}
    for model, found in rows.items():
        parts += [f"## {model}", table([r for r in found if r["scope"] == "all"])]
    if any(r["scope"] == "inner" for found in rows.values() for r in found):
        parts.append(INNER)
    for model, found in rows.items():
        if inner := [r for r in found if r["scope"] == "inner"]:
            parts += [f"### {model}", table(inner)]
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
