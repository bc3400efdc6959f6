"""Write docs/compatibility.md from the stored sweeps: one row a model, in the order of the zoo.

    python benchmarks/zoo/table.py

Rounded so coarsely that a change in the page is a change in what the engine does.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "compatibility.md"
HOWS = {"uniform": "half of every group", "ranked": "half of the MACs"}
VERDICTS = ("pruned", "refused", "noop", "wrong", "error", "timeout")
STEPS = ("trace", "prune")
LIBRARIES = ("torchvision", "timm", "transformers")
Rows = dict[str, dict[str, Any]]  # name -> facts

INTRO = """# Compatibility

Written by `make matrix` from `benchmarks/results/zoo_uniform.jsonl` and `zoo_ranked.jsonl`, made by `benchmarks/zoo/`.
Random weights that hide nothing, eval mode, small inputs, one thread, a process and a time limit for each model.
*pruned*: smaller, runs, gives what the masked model gives in float64 (error at most 1e-6, at a second batch size too),
same output shapes, gradients, ties kept, reloads bit for bit (into a fresh model that has run once), caller's model
untouched. *refused*: an error of ours said why, before anything changed. *error*: largest difference over how much the
output moves between two inputs, rounded up to a power of ten. Seconds: the whole prune, to one digit. `+cache` rows
return their keys and values."""


def main() -> None:
    sweeps = {how: read(RESULTS / f"zoo_{how}.jsonl") for how in HOWS}
    PAGE.write_text(page(sweeps))
    print(f"{PAGE.relative_to(ROOT)}: {', '.join(f'{len(rows)} {how}' for how, rows in sweeps.items())}")


def read(path: Path) -> Rows:
    """The rows of a sweep by name; where a model was run twice, the later one."""
    if not path.exists():
        return {}
    return {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}


def page(sweeps: dict[str, Rows]) -> str:
    """The whole page."""
    lines = [INTRO, "", *machine(sweeps), "", *summary(sweeps)]
    for library in LIBRARIES:
        lines += ["", f"## {library}", "", *table(library, sweeps)]
    return "\n".join([*lines, *misses(sweeps)]) + "\n"


def machine(sweeps: dict[str, Rows]) -> list[str]:
    """What it ran on, once for each combination that occurs."""
    hosts = {json.dumps(row["host"], sort_keys=True) for rows in sweeps.values() for row in rows.values()}
    told = []
    for host in map(json.loads, sorted(hosts)):
        packages = ", ".join(f"{name} {host[name]}" for name in ("torch", *LIBRARIES))
        told.append(f"Hardware: {host['cpu']}, one thread; {packages}.")
    return told


def summary(sweeps: dict[str, Rows]) -> list[str]:
    """Totals and medians, one column a sweep."""
    lines = ["| | " + " | ".join(HOWS.values()) + " |", "|---" * (1 + len(HOWS)) + "|"]
    for what, tell in (
        *((library, lambda rows, n=library: outcome(rows, n)) for library in LIBRARIES),
        ("all rows", outcome),
        ("groups prunable", lambda rows: ratio(rows, "prunable", "groups")),
        ("MACs kept, median", lambda rows: median([kept(r) for r in rows.values()], hundredths)),
        *((f"seconds to {s}, median", lambda rows, s=s: median(spent(rows, s), rough)) for s in STEPS),
        ("prune in dense forwards, median", lambda rows: median(forwards(rows), rough)),
        ("worst error", lambda rows: bound(max((r["error"] for r in rows.values() if "error" in r), default=None))),
    ):
        lines.append(f"| {what} | " + " | ".join(tell(sweeps[how]) for how in HOWS) + " |")
    return lines


def outcome(rows: Rows, library: str | None = None) -> str:
    """Count of each verdict: "20 pruned, 1 refused of 21"."""
    found = [r["verdict"] for r in rows.values() if library in (None, r["library"])]
    counts = Counter(found)
    told = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
    return f"{told or 'none'} of {len(found)}"


def ratio(rows: Rows, part: str, whole: str) -> str:
    held = [r for r in rows.values() if whole in r]
    return f"{sum(r[part] for r in held)} of {sum(r[whole] for r in held)}"


def kept(row: dict[str, Any]) -> float | None:
    """The fraction of the MACs that is left, by torch's counter."""
    return row["counted_after"] / row["counted_before"] if row.get("counted_before") else None


def spent(rows: Rows, step: str) -> list[float | None]:
    return [r["seconds"].get(step) for r in rows.values()]


def forwards(rows: Rows) -> list[float | None]:
    """How many forwards of the dense model a prune takes."""
    both = [(r["seconds"].get("prune"), r["seconds"].get("forward")) for r in rows.values()]
    return [p / f for p, f in both if p and f]


def median(values: list[float | None], form: Callable[[float], str]) -> str:
    known = [v for v in values if v is not None]
    return form(statistics.median(known)) if known else "-"


def hundredths(value: float) -> str:
    return f"{value:.2f}"


def rough(value: float) -> str:
    """One digit: 0.04, 0.3, 30."""
    return f"{float(f'{value:.1g}'):g}"


def bound(error: float | None) -> str:
    """The power of ten that an error stays under."""
    if error is None or math.isnan(error):
        return "-"
    return "0" if error == 0 else f"1e{math.ceil(math.log10(error))}"


def table(library: str, sweeps: dict[str, Rows]) -> list[str]:
    """One row a model; the columns after the reasons come once a sweep."""
    each = ("MACs kept", "error", "seconds", "verdict")
    head = ["model", "groups", "prunable", "frozen", *(f"{column}, {how}" for how in HOWS for column in each)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in models.ROWS:
        found = [sweeps[how].get(name, {}) for how in HOWS]
        if models.library(name) == library and any(found):
            lines.append("| " + " | ".join([name, *facts(next(filter(None, found))), *results(found)]) + " |")
    return lines


def facts(row: dict[str, Any]) -> list[str]:
    """What the trace found; it is the same in every sweep."""
    reasons = "; ".join(f"{count} {reason}" for reason, count in row.get("frozen", {}).items())
    return [str(row.get("groups", "-")), str(row.get("prunable", "-")), plain(reasons) or "-"]


def results(found: list[dict[str, Any]]) -> list[str]:
    cells = []
    for row in found:
        seconds = row.get("seconds", {}).get("prune")
        cells += [median([kept(row)], hundredths), bound(row.get("error")), median([seconds], rough)]
        cells.append(row.get("verdict", "-"))
    return cells


def misses(sweeps: dict[str, Rows]) -> list[str]:
    """What was said of each model that was not pruned."""
    lines = []
    for how, rows in sweeps.items():
        for name in models.ROWS:
            if name in rows and rows[name]["verdict"] != "pruned":
                lines.append(f"- `{name}`, {how}, {rows[name]['verdict']}: {plain(rows[name]['message'])}")
    return ["", "## Not pruned", "", *lines] if lines else []


def plain(text: str) -> str:
    """Text that a table's cell can hold."""
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
