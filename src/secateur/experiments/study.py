"""Work through a study with one or more processes; killed at any moment and started again, it ends the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import SecateurError, StudyError
from .config import Run, Study
from .execute import execute
from .store import Row, Store

HEARTBEAT = 10.0  # seconds
PAUSE = 0.2  # seconds between looks at the table while others work
Report = Callable[[list[Row]], None]


def store_of(folder: Path) -> Store:
    """The run table of a study's folder."""
    return Store(folder / "runs.sqlite")


def compare(study: Study, folder: Path, *, workers: int = 1, report: Report | None = None) -> list[Row]:
    """Do every run of the study that is not done yet; returns all its rows.

    `folder` holds the table, weights and checkpoints; several studies may share one. Runs that failed earlier are tried
    again. `report(rows)` is called as rows change. Raises `StudyError` when `workers` is below 1.
    """
    if workers < 1:
        raise StudyError(f"workers={workers}: give at least 1")
    store = store_of(folder)
    runs = study.runs()
    keys = {run.key for run in runs}
    store.add(runs)
    store.retry_failed(keys)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{study.name}.study.json").write_text(study.model_dump_json(indent=2))
    if workers == 1:
        _work(folder, keys, lambda: report(store.rows(keys)) if report else None)
    else:
        _work_together(folder, keys, workers, store, report)
    return store.rows(keys)


def _work_together(folder: Path, keys: set[str], workers: int, store: Store, report: Report | None) -> None:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    processes = [context.Process(target=_worker, args=(folder, keys, os.getpid())) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        while any(p.is_alive() for p in processes):
            if report:
                report(store.rows(keys))
            time.sleep(PAUSE)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()
    if report:
        report(store.rows(keys))
    for process in processes:
        if process.exitcode:
            raise StudyError(f"a worker ended with exit code {process.exitcode}; start again to go on from here")


def _worker(folder: Path, keys: set[str], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, ends the workers
    torch.set_num_threads(1)
    _work(folder, keys, lambda: None, lambda: os.getppid() == parent)


def _work(folder: Path, keys: set[str], step: Callable[[], None], wanted: Callable[[], bool] = lambda: True) -> None:
    store = store_of(folder)
    while wanted():
        run = store.claim(keys)
        if run is not None:
            step()
            _do(run, store, folder)
            step()
        elif any(row.status in ("pending", "running") for row in store.rows(keys)):
            time.sleep(PAUSE)  # another worker has what the rest needs
        else:
            return


def _do(run: Run, store: Store, folder: Path) -> None:
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            store.beat(run)

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    start = time.monotonic()
    try:
        result = execute(run, folder)
    except SecateurError as error:
        store.fail(run, f"{type(error).__name__}: {error}", time.monotonic() - start)
    except Exception:  # a bug, or the user's own model: the other runs go on, and this one says why
        store.fail(run, traceback.format_exc(), time.monotonic() - start)
    else:
        store.finish(run, result, time.monotonic() - start)
    finally:
        done.set()
        heart.join()
