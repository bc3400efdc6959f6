"""Shared by the engine's benchmarks: a fresh process for each figure, its spread, and results as JSON."""

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from secateur.experiments.environment import environment

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
LOAD = f"{os.getloadavg()[0]:.2f}"


def fresh(script, *arguments, **variables):
    """What a script of this folder prints as its last line, as JSON, from a process of its own with one thread.

    `variables` are added to its environment.
    """
    command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)} failed\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def spread(values, digits=4):
    """Median, smallest and largest of some figures, and how many there were."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "runs": len(values),
    }


def processor():
    """The processor's name, as Linux gives it, else as Python does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


def write(name, figures, libraries=()):
    """Write the figures, with what they were measured on, to benchmarks/results/engine_<name>.json."""
    on = {
        **environment(),
        "Threads of torch": "1",
        "Processor": processor(),
        "Load before": LOAD,
        **{library: version(library) for library in libraries},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"engine_{name}.json"
    path.write_text(json.dumps({"environment": on, **figures}, indent=1) + "\n")
    print(f"written: {path.relative_to(HERE.parent.parent)}")
