"""Cost is counting, for every model of the zoo: the polynomial against the rebuilt model, and against torch's counter.

    python benchmarks/zoo/cost.py
    python benchmarks/zoo/cost.py --only resnet18 llama_gqa+cache

A random plan (a random width for each group) is cut, unverified, and the cut model traced anew: what its own dense cost
is must be what `CostModel(graph).at(widths)` said before the cut, each field, to the last unit. torch's
`FlopCounterMode` counts both models on the meta device, and with real tensors where attention is one fused op that it
does not know on a CPU. Rows that the file has are skipped. `--page` writes the table of docs/cost.md alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # before NumPy: evaluation is a small product

import models
import run

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "zoo_cost.jsonl"
PAGE = ROOT / "docs" / "cost.md"
BEGIN, END = "<!-- zoo cost: begin -->", "<!-- zoo cost: end -->"
EVALUATIONS = 50
FIELDS = ("macs", "params", "bytes", "activations")
WHY = {"sequencer2d_s": "oneDNN runs an LSTM as one op that the counter does not know"}  # real tensors on a CPU


def work(row: run.Row, seed: int) -> None:
    """All that is done with one model; `row` says at any moment how far it came."""
    import torch
    import zoo_oracle as oracle

    import secateur
    from secateur.cost.cost import CostModel

    torch.set_num_threads(1)
    name = row.facts["name"]
    with row.stage("build"), torch.no_grad():
        dense, example = models.build(name), models.example(name)
        oracle.outputs(dense, example)  # a first forward may complete a model
    with row.stage("trace"):
        graph = secateur.trace(dense, example)
    with row.stage("compile"):
        cost = CostModel(graph)
    plan = random_plan(graph, seed)
    widths = plan.widths(graph)
    row.add(groups=len(graph.groups), micros=micros(lambda: cost.at(widths)))
    with row.stage("cut"):
        small = secateur.cut(graph, plan, verify="off").model
    with row.stage("retrace"):
        rebuilt = CostModel(secateur.trace(small, example)).dense()
    told = cost.at(widths)
    row.add(before=cost.dense().as_dict(), told=told.as_dict(), rebuilt=rebuilt.as_dict())
    row.add(held=held(small), wrong=[f for f in FIELDS if getattr(told, f) != getattr(rebuilt, f)])
    with row.stage("count"):
        row.add(meta=[attempt(on_meta, m, example) for m in (dense, small)])
        row.add(real=[attempt(oracle.count, m, example) for m in (dense, small)])
    row.add(verdict="exact" if not row.facts["wrong"] and held(small) == [told.params, told.bytes] else "wrong")


def random_plan(graph: Any, seed: int) -> Any:
    """A random part of every group, of a random size that the group may have."""
    import numpy as np

    import secateur

    rng = np.random.default_rng(seed)
    kept = {}
    for group in graph.groups:
        width = int(rng.integers(max(1, group.least), group.size + 1))
        kept[group.name] = np.sort(rng.permutation(group.size)[:width]).tolist()
    return secateur.Plan.keeping(graph, kept)


def micros(evaluate: Callable[[], object]) -> float:
    """Microseconds of one evaluation, the median of many."""
    samples = []
    for _ in range(EVALUATIONS):
        began = time.perf_counter()
        evaluate()
        samples.append(time.perf_counter() - began)
    return round(statistics.median(samples) * 1e6, 1)


def held(model: Any) -> list[int]:
    """Parameters, and bytes of parameters and buffers, of the tensors themselves."""
    tensors = [*model.parameters(), *model.buffers()]
    return [sum(p.numel() for p in model.parameters()), sum(t.numel() * t.element_size() for t in tensors)]


def on_meta(model: Any, example: Any) -> int:
    """Multiply-accumulates by torch's counter on tensors without data."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from secateur.graph.example import call, map_tensors

    ghost = copy.deepcopy(model).requires_grad_(False).to("meta").eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call(ghost, map_tensors(example, lambda t: t.to("meta")))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


def attempt(count: Callable[[Any, Any], int], model: Any, example: Any) -> int | str:
    """The count, or why there is none: a model may make tensors of its own that are not on the meta device."""
    try:
        return count(model, example)
    except Exception as error:  # whatever a forward raises where it finds no data
        return run.told(error)


def sweep_one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one model, from a process that may crash or hang."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "row.json"
        process = multiprocessing.get_context("fork").Process(target=child, args=(name, options.seed, path))
        process.start()
        process.join(options.limit_seconds)
        code = None if process.is_alive() else process.exitcode
        process.kill()
        process.join()
        facts = json.loads(path.read_text()) if path.exists() else run.Row(name, "cost", path).facts
    return run.closed(facts, code, options.limit_seconds)


def child(name: str, seed: int, path: Path) -> None:
    """One row in this process: whatever is raised becomes its verdict."""
    row = run.Row(name, "cost", path)
    row.add(stage="start", host=run.host(), seed=seed)
    try:
        work(row, seed)
    except Exception as error:  # the sweep goes on, and the row says what it was
        row.add(verdict="error", message=f"{row.facts['stage']}: {run.told(error)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--library", choices=run.LIBRARIES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--limit-seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", action="store_true", help="write the table of docs/cost.md from stored rows alone")
    options = parser.parse_args()
    options.how = "cost"  # what `run` calls the kind of a sweep
    if not options.page:
        run.import_libraries()
        for name in run.chosen(options):
            facts = sweep_one(name, options)
            with options.out.open("a") as file:
                file.write(json.dumps(facts) + "\n")
            print(f"{name:32} {facts['verdict']:8} {facts.get('message', facts.get('wrong', ''))}", flush=True)
    if options.out == RESULTS:
        PAGE.write_text(with_table(PAGE.read_text(), read(RESULTS)))


def read(path: Path) -> list[dict[str, Any]]:
    """Rows in the order of the zoo; where a model was run twice, the later one."""
    found = {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}
    return [found[name] for name in models.ROWS if name in found]


def with_table(text: str, rows: list[dict[str, Any]]) -> str:
    """The page with what the rows say between its markers."""
    head, _, rest = text.partition(BEGIN)
    return "\n".join([head + BEGIN, "", *table(rows), "", END]) + rest.partition(END)[2]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Totals of each library, and what is to be said of single models."""
    hosts = sorted({f"{r['host']['cpu']}, torch {r['host']['torch']}" for r in rows})
    lines = [
        "Written by `benchmarks/zoo/cost.py --page` from `benchmarks/results/zoo_cost.jsonl`. Every group gets a",
        "random width. *Exact*: all four fields of `CostModel.at` are those of the cut model when it is traced anew,",
        "parameters and bytes those of its tensors. torch's counter counts the whole and the cut model. Microseconds:",
        f"one `CostModel.at`, median of {EVALUATIONS} (one thread of a machine at work; {'; '.join(hosts)}).",
        "",
        "| | exact | as torch on meta | as torch on real tensors | µs, median | µs, worst | groups of the worst |",
        "|---|---|---|---|---|---|---|",
    ]
    for library in (*run.LIBRARIES, ""):
        chosen = [r for r in rows if library in (r["library"], "")]
        worst = max((r for r in chosen if "micros" in r), key=lambda r: r["micros"])
        middle = statistics.median(r["micros"] for r in chosen if "micros" in r)
        exact = sum(r["verdict"] == "exact" for r in chosen)
        cells = [f"{exact} of {len(chosen)}", *(agreement(chosen, by) for by in ("meta", "real"))]
        cells += [f"{middle:.0f}", f"{worst['micros']:.0f}", f"{worst['groups']}"]
        lines.append(f"| {library or 'all rows'} | " + " | ".join(cells) + " |")
    return [*lines, "", *remarks(rows)]


def macs(row: dict[str, Any]) -> list[int]:
    """Of the whole and of the cut model, by the closed form."""
    return [row["before"]["macs"], row["told"]["macs"]]


def agreement(rows: list[dict[str, Any]], by: str) -> str:
    """How often torch counts the same, another number, or none."""
    counted = [r for r in rows if by in r]
    none = sum(any(isinstance(n, str) for n in r[by]) for r in counted)
    same = sum(r[by] == macs(r) for r in counted)
    parts = {"the same": same, "less or more": len(counted) - none - same, "not counted": none}
    return ", ".join(f"{n} {what}" for what, n in parts.items() if n)


def remarks(rows: list[dict[str, Any]]) -> list[str]:
    """Models that are not exact, that torch counts otherwise, or cannot count."""
    lines = []
    reasons: dict[str, list[str]] = {}
    for row in rows:
        name = f"`{row['name']}`"
        if row["verdict"] != "exact":
            lines.append(f"- {name}: {row['verdict']}: {row.get('message') or row.get('wrong')}")
            continue
        if isinstance(row["meta"][0], str):
            reasons.setdefault(row["meta"][0], []).append(name)
        elif row["meta"] != macs(row):
            lines.append(f"- {name}: on meta torch counts {row['meta']} and not {macs(row)}")
        if row["real"] != macs(row):
            why = WHY.get(row["name"], "unexplained")
            lines.append(f"- {name}: on a CPU torch counts {row['real']} and not {macs(row)}: {why}.")
    for reason, names in reasons.items():
        lines.append(
            f"- Not counted on meta, for the forward asks a tensor for its value ({reason}): {', '.join(names)}."
        )
    return lines


if __name__ == "__main__":
    main()
