"""Measure the latency of a model on this machine, once: tables and fits are kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..cost.cost import CostModel
from ..cost.latency import Latency, Phase
from ..engines.base import ENGINES
from ..errors import BadExample, BadModel, CheckpointError
from ..graph.example import tensors
from ..groups.graph import Graph
from .calibrate import fitted, sampled, whole_models
from .tables import measured, staircases, times_of

FORMAT = 1
SAMPLES = 12  # whole models that a fit is made from


def measure_latency(
    graph: Graph,
    engine: str = "eager",
    *,
    threads: int = 1,
    samples: int = SAMPLES,
    cache: str | Path | None = None,
    again: bool = False,
    seed: int = 0,
) -> Latency:
    """Milliseconds of one forward of the graph's model on its example, at any widths, on an engine of this machine.

    Times every op of the model alone at the widths that matter, reads the staircase of the hardware, and fits both to
    `samples` whole models at widths of all kinds; `.error` is the median relative error on those, each predicted from
    the others. `engine`: eager, compile (which takes its tables from eager), onnxruntime or openvino. Results are kept
    in the folder `cache` (default: $SECATEUR_CACHE, or secateur in the user's cache folder), by device, engine,
    version, threads, batch and dtype, and read from there unless `again`.

    Raises `UnknownName`, `MissingDependency`, `BadModel` for a model without float32 weights on the CPU, `ExportError`,
    `CheckpointError` for a folder that cannot be written.
    """
    chosen = ENGINES.make(engine)
    chosen.check()
    _on_cpu(graph)
    about = {"device": device(), "engine": chosen.version(), "threads": str(threads), "dtype": "float32"}
    path = folder(cache) / f"{_digest(about)}.json"
    known = {} if again else _read(path)
    tables = {key: np.array(values) for key, values in known.get("tables", {}).items()}
    latency = Latency(engine, threads, tables, {}, about=about)
    wanted = CostModel(graph).timed(graph)
    key = _digest([about, samples, seed, _facts(graph), [t.key for t in wanted]])
    times, batch = times_of(engine, threads), tensors(graph.example)[0].shape[0]
    tables |= measured(wanted, tables, times)
    steps: dict[str, Any] = known.get("staircases", {})
    if str(batch) not in steps or not {t.op.kind for t in wanted} <= {name for name, _ in _phases(steps[str(batch)])}:
        found = staircases({t.op.kind for t in wanted}, batch, times)
        steps[str(batch)] = steps.get(str(batch), []) + [[*place, *phase] for place, phase in found.items()]
    latency = replace(latency, tables=tables, phases=_phases(steps[str(batch)]))
    fits: dict[str, Any] = known.get("fits", {})
    if key not in fits:
        widths = sampled(graph, samples, seed)
        latency = fitted(latency, CostModel(graph, latency), widths, whole_models(graph, widths, engine, threads))
        fits[key] = {"fit": latency.fit, "error": latency.error}
    _write(path, about, tables, steps, fits)
    return replace(latency, fit=tuple(fits[key]["fit"]), error=fits[key]["error"])


def device() -> str:
    """The processor by its name, and how many of it there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} x{os.cpu_count()}"


def folder(cache: str | Path | None) -> Path:
    """Where results are kept."""
    if cache is not None:
        return Path(cache)
    if told := os.environ.get("SECATEUR_CACHE"):
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secateur" / "latency"


def _on_cpu(graph: Graph) -> None:
    for name, p in graph.model.named_parameters():
        if p.device.type != "cpu" or p.dtype.is_complex or p.element_size() != 4:
            raise BadModel(f"{name} is {p.dtype} on {p.device}; latency is measured of float32 models on the CPU")
    if not tensors(graph.example)[0].dim():
        raise BadExample("the example's first tensor has no batch axis")


def _phases(rows: list[Any]) -> dict[tuple[str, int], Phase]:
    return {(kind, place): (tuple(columns), tuple(slower)) for kind, place, columns, slower in rows}


def _facts(graph: Graph) -> list[Any]:
    shapes = [list(t.shape) for t in tensors(graph.example)]
    return [shapes, [[n, list(p.shape)] for n, p in graph.model.named_parameters()], [g.name for g in graph.groups]]


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    """What is kept; nothing where the file is of another format. Raises `CheckpointError` for one that is damaged."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}, where measured latency is kept, cannot be read ({error}); delete it") from error
    return found if found.get("format") == FORMAT else {}


def _write(path: Path, about: Any, tables: Any, steps: Any, fits: Any) -> None:
    lists = {key: values.tolist() for key, values in tables.items()}
    facts = {"format": FORMAT, "about": about, "staircases": steps, "fits": fits, "tables": lists}
    files.write_text(path, json.dumps(facts))
