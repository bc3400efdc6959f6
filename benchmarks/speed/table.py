"""Write the figures of docs/speed.md from the stored results of prediction.py and realised.py.

python benchmarks/speed/table.py
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "results"
START, END = "<!-- figures: written by benchmarks/speed/table.py -->", "<!-- end of figures -->"


def stored(name):
    path = RESULTS / f"speed_{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def machine(rows):
    about = rows[0]["about"]
    return f"{about['device']}, shared"


def prediction(rows):
    lines = [
        f"`python benchmarks/speed/prediction.py`: {machine(rows)}; batch 1 of 224 x 224, 12 held-back random",
        "widths from 20 % up, odd ones and whole blocks, run in turn with the models that the fit is made from.",
        "Relative errors.",
        "",
        "| model | engine | threads | median error | worst | held-back, ms | seconds to measure |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        span = f"{min(r['measured_ms']):.1f} to {max(r['measured_ms']):.1f}"
        errors = f"{100 * r['median_error']:.1f} % | {100 * r['worst_error']:.1f} %"
        engine = r["about"]["engine"]
        lines.append(
            f"| {r['model']} | {engine} | {r['threads']} | {errors} | {span} | {r['seconds_to_measure']:.0f} |"
        )
    return lines


def realised(rows):
    names = list(rows[0]["cells"])
    heads = [n.replace("peer", "torch-pruning").replace("round_to=None", "round_to=1") for n in names]
    lines = [
        f"`python benchmarks/speed/realised.py`: {machine(rows)}; {rows[0]['about']['engine']}; at most half of the",
        "MACs, so that in proportion to MACs all would be 2 times as fast. Medians of speed-ups over dense by",
        "rounds, all nets in turn, [quartiles], and the part of the MACs kept.",
        "",
        f"| model | batch | threads | dense, ms | {' | '.join(heads)} |",
        f"|---|---:|---:|---:|{'---:|' * len(heads)}",
    ]
    for r in rows:
        cells = []
        for n in names:
            c = r["cells"][n]
            low, high = c["quartiles"]
            cells.append(f"{c['speed_up']:.2f} [{low:.2f}, {high:.2f}], {c['macs']:.3f}")
        lines.append(f"| {r['model']} | {r['batch']} | {r['threads']} | {r['dense_ms']:.1f} | {' | '.join(cells)} |")
    return lines


def main():
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    parts = [START, ""]
    if rows := stored("prediction"):
        parts += [*prediction(rows), ""]
    if rows := stored("realised"):
        parts += [*realised(rows), ""]
    PAGE.write_text(before + "\n".join([*parts, END]) + after)


if __name__ == "__main__":
    main()
