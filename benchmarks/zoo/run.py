"""Prune every model of the zoo, each in a process of its own, and write one line of JSON for each.

    python benchmarks/zoo/run.py --how uniform --out benchmarks/results/zoo_uniform.jsonl
    python benchmarks/zoo/run.py --only resnet18 llama_gqa+cache --fresh

`uniform` keeps half of the units of every group, `ranked` half of the MACs by L2 over all groups. Rows that the file
has already are skipped, so that a sweep can be stopped and taken up again; remove the file to start anew.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import models

HERE = Path(__file__).resolve()
LIBRARIES = ("torchvision", "timm", "transformers")
MESSAGE = 400  # characters of an error that a row keeps


class Row:
    """The line of one model, written to disk whenever it learns something, so that a crash leaves what was known."""

    def __init__(self, name: str, how: str, path: Path) -> None:
        self.path, self.facts = path, {"name": name, "library": models.library(name), "how": how, "seconds": {}}

    def add(self, **facts: Any) -> None:
        """Learn something."""
        self.facts.update(facts)
        self.path.write_text(json.dumps(self.facts))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a step, and say that the row is at it."""
        self.add(stage=name)
        began = time.perf_counter()
        yield
        self.facts["seconds"][name] = round(time.perf_counter() - began, 3)
        self.add()


def work(row: Row, how: str, batch: int, fresh: bool) -> None:
    """All that is done with one model; `row` says at any moment how far it came."""
    import torch
    import weights
    import zoo_oracle as oracle

    import secateur
    from secateur.allocation.uniform import Uniform

    torch.set_num_threads(1)
    name = row.facts["name"]
    with row.stage("build"):
        example, seconds = models.example(name, batch), [models.example(name, batch + 1, seed) for seed in (1, 2)]
        dense = weights.enliven(models.build(name), models.example(name, 8, 3))
        with torch.no_grad():
            oracle.outputs(dense, example)
        before = oracle.fingerprint(dense)  # a first forward may complete a model
        secateur.trace(torch.nn.Linear(4, 4), torch.zeros(1, 4))  # what is done once a process is nobody's time
    with row.stage("forward"), torch.no_grad():
        oracle.outputs(dense, example)
    with row.stage("trace"):
        graph = secateur.trace(dense, example)
    row.add(**coverage(graph))
    options = {"allocator": Uniform(keep=0.5)} if how == "uniform" else {"budget": secateur.Budget(macs=0.5)}
    with row.stage("prune"):
        pruned = secateur.prune(dense, example, **options)
    row.add(error=pruned.check.max_error, peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    here = oracle.loaded_here(lambda: models.build(name), example)
    with row.stage("judge"):
        found = oracle.judge(
            dense, pruned, example, seconds, before=before, reload=elsewhere(name, batch) if fresh else here
        )
    row.add(verdict=found.verdict, message="; ".join(found.problems)[:MESSAGE], notes=found.notes)
    row.add(second_error=found.second_error, **costs(pruned, found))


def coverage(graph: Any) -> dict[str, Any]:
    """How much can be pruned, and why the rest cannot."""
    reasons = Counter(f.reason for f in graph.frozen)
    return {
        "groups": len(graph.groups) + len(graph.frozen),
        "prunable": len(graph.groups),
        "units": sum(g.size for g in graph.groups),
        "frozen": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
    }


def costs(pruned: Any, found: Any) -> dict[str, Any]:
    """By the engine's closed form, and as counted by torch and from the tensors."""
    return {
        "macs_before": pruned.before.macs,
        "macs_after": pruned.after.macs,
        "counted_before": found.macs[0],
        "counted_after": found.macs[1],
        "params_before": found.params[0],
        "params_after": found.params[1],
    }


def elsewhere(name: str, batch: int) -> Any:
    """Load in a fresh process, which knows nothing but the name and the file."""
    from safetensors.torch import load_file

    def reload(path: Path) -> list[Any]:
        out = path.with_name("outputs.safetensors")
        command = [sys.executable, str(HERE), "--reload", str(path), "--out", str(out), "--batch", str(batch)]
        done = subprocess.run([*command, "--only", name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word")
        held = load_file(out)
        return [held[str(i)] for i in range(len(held))]

    return reload


def reload_child(name: str, batch: int, path: Path, out: Path) -> None:
    """The fresh process: load, run, write the outputs."""
    import torch
    import zoo_oracle as oracle
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    found = oracle.loaded_here(lambda: models.build(name), models.example(name, batch))(path)
    save_file({str(i): t.contiguous().clone() for i, t in enumerate(found)}, out)


def child(name: str, options: argparse.Namespace) -> None:
    """One row in this process: whatever is raised becomes its verdict."""
    from secateur.errors import SecateurError

    row = Row(name, options.how, options.out)
    row.add(stage="start", host=host())
    try:
        work(row, options.how, options.batch, options.fresh)
    except SecateurError as error:
        row.add(verdict="refused", message=told(error))
    except Exception as error:  # the sweep goes on, and the row says what it was
        row.add(verdict="error", message=f"{row.facts['stage']}: {told(error)}")


def told(error: Exception) -> str:
    """One line, without the paths of this machine."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return re.sub(r"(/[\w.+-]+){3,}/", "", line)[:MESSAGE]


def host() -> dict[str, str]:
    """What the seconds were measured on."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    packages = ("torch", *LIBRARIES)
    return {"cpu": found.group(1) if found else platform.machine(), **{p: version(p) for p in packages}}


def sweep_one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one model, from a process that may crash or hang."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "row.json"
        # Forked, so that the libraries are imported once for all rows.
        process = multiprocessing.get_context("fork").Process(target=muted, args=(name, options, path))
        process.start()
        process.join(options.limit_seconds)
        code = None if process.is_alive() else process.exitcode
        process.kill()
        process.join()
        facts = json.loads(path.read_text()) if path.exists() else Row(name, options.how, path).facts
    return closed(facts, code, options.limit_seconds)


def import_libraries() -> None:
    """All that rows need, in one thread."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import torch

    torch.set_num_threads(1)
    models.define_schemas()
    for module in ("zoo_oracle", "weights", "torchvision", "timm", "transformers", "secateur"):
        importlib.import_module(module)


def muted(name: str, options: argparse.Namespace, path: Path) -> None:
    """One row in this process, whose libraries keep their warnings to themselves."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    child(name, argparse.Namespace(**vars(options) | {"out": path}))


def closed(facts: dict[str, Any], code: int | None, limit: float) -> dict[str, Any]:
    """The row with a verdict, also where the process did not live to give one."""
    stage = facts.pop("stage", "start")
    if code is None:
        facts |= {"verdict": "timeout", "message": f"{stage}: more than {limit:g} s"}
    elif "verdict" not in facts:
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        facts |= {"verdict": "error", "message": f"{stage}: {how}"}
    return facts


def chosen(options: argparse.Namespace) -> list[str]:
    """The rows asked for that the file does not have; a bare decoder's name stands for both of its rows."""
    wanted = [r for r in models.ROWS if options.library in (None, models.library(r))]
    if options.only:
        for name in options.only:
            models.library(name)  # raises for a name that is not there
        wanted = [r for r in wanted if r in options.only or r.removesuffix(models.CACHED) in options.only]
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = {(row["name"], row["how"]) for row in map(json.loads, lines)}
    return [r for r in wanted if (r, options.how) not in done]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--library", choices=LIBRARIES)
    parser.add_argument("--how", choices=("uniform", "ranked"), default="uniform")
    parser.add_argument("--out", type=Path, default=Path("runs/zoo.jsonl"))
    parser.add_argument("--limit-seconds", type=float, default=120)
    parser.add_argument("--batch", type=int, default=1, help="of the example; the second batch size is one more")
    parser.add_argument("--fresh", action="store_true", help="load what was saved in a process of its own")
    parser.add_argument("--reload", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reload:
        reload_child(options.only[0], options.batch, options.reload, options.out)
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        import_libraries()
        for name in chosen(options):
            facts = sweep_one(name, options)
            with options.out.open("a") as file:
                file.write(json.dumps(facts) + "\n")
            print(f"{name:32} {facts['verdict']:8} {facts.get('message', '')}", flush=True)


if __name__ == "__main__":
    main()
