"""The run table: SQLite, one row a run. A killed worker's run is taken up again; no run is lost or done twice."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import StudyError
from .config import Run

SILENT_AFTER = 60.0  # seconds without a heartbeat after which a worker on another machine counts as dead
_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
  key TEXT PRIMARY KEY, place INTEGER NOT NULL, needs TEXT, config TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'pending', owner TEXT, beat REAL, result TEXT, error TEXT, seconds REAL
)"""


@dataclass(frozen=True)
class Row:
    """A stored run: `status` is pending, running, done or failed; `result` is there when done, `error` when failed."""

    run: Run
    status: str
    result: dict[str, Any] | None
    error: str | None
    seconds: float | None


class Store:
    """The table in one file; safe for several processes at once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{_born(os.getpid())}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._write() as db:
                db.execute(_TABLE)
        except (sqlite3.DatabaseError, OSError) as error:
            raise StudyError(f"{self.path} cannot be used as a run table: {error}") from error

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        finally:
            db.close()  # without a COMMIT this rolls back

    def add(self, runs: Iterable[Run]) -> None:
        """Enter runs that are not there yet, in order."""
        with self._write() as db:
            place = db.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
            for i, run in enumerate(runs):
                needs = None if run.arm == "dense" else run.dense.key
                row = (run.key, place + i, needs, run.model_dump_json())
                db.execute("INSERT OR IGNORE INTO runs (key, place, needs, config) VALUES (?, ?, ?, ?)", row)

    def claim(self, keys: set[str]) -> Run | None:
        """Take the first of these runs that is free and whose dense run is done; None when there is none just now."""
        with self._write() as db:
            self._free_the_dead(db)
            free = db.execute(
                "SELECT key, config FROM runs WHERE status = 'pending' AND "
                "(needs IS NULL OR needs IN (SELECT key FROM runs WHERE status = 'done')) ORDER BY place"
            )
            for key, config in free:
                if key in keys:
                    sql = "UPDATE runs SET status = 'running', owner = ?, beat = ? WHERE key = ?"
                    db.execute(sql, (self.owner, time.time(), key))
                    return self._run(config)
        return None

    def _run(self, config: str) -> Run:
        try:
            return Run.model_validate_json(config)
        except ValidationError as error:
            raise StudyError(
                f"{self.path} holds a run of another version ({error.errors()[0]['msg']}); use a new folder"
            ) from error

    def _free_the_dead(self, db: sqlite3.Connection) -> None:
        running = db.execute("SELECT key, owner, beat FROM runs WHERE status = 'running'").fetchall()
        for key, owner, beat in running:
            if not _alive(owner, beat):
                db.execute("UPDATE runs SET status = 'pending', owner = NULL WHERE key = ?", (key,))

    def beat(self, run: Run) -> None:
        """Say that this worker still works on the run."""
        with self._write() as db:
            db.execute("UPDATE runs SET beat = ? WHERE key = ? AND owner = ?", (time.time(), run.key, self.owner))

    def finish(self, run: Run, result: dict[str, Any], seconds: float) -> None:
        """Store a result; only the worker that holds the run can."""
        self._close(run, "done", json.dumps(result, sort_keys=True), None, seconds)

    def fail(self, run: Run, error: str, seconds: float) -> None:
        """Store why a run could not be done, and why those that need it cannot."""
        self._close(run, "failed", None, error, seconds)
        with self._write() as db:
            sql = "UPDATE runs SET status = 'failed', error = ? WHERE needs = ? AND status = 'pending'"
            db.execute(sql, (f"the dense run it starts from failed: {error}", run.key))

    def _close(self, run: Run, status: str, result: str | None, error: str | None, seconds: float) -> None:
        with self._write() as db:
            sql = "UPDATE runs SET status = ?, result = ?, error = ?, seconds = ?, owner = NULL "
            done = db.execute(
                sql + "WHERE key = ? AND owner = ?", (status, result, error, seconds, run.key, self.owner)
            ).rowcount
        if done != 1:
            raise StudyError(f"run {run.key} ({run.label}) was taken over by another worker; its result stands")

    def retry_failed(self, keys: set[str]) -> None:
        """Make failed runs free again."""
        with self._write() as db:
            sql = "UPDATE runs SET status = 'pending', error = NULL WHERE key = ? AND status = 'failed'"
            db.executemany(sql, [(k,) for k in keys])

    def rows(self, keys: set[str] | None = None) -> list[Row]:
        """All rows, or those of these runs, in order."""
        db = sqlite3.connect(self.path, timeout=60)
        try:
            found = db.execute("SELECT key, config, status, result, error, seconds FROM runs ORDER BY place").fetchall()
        finally:
            db.close()
        return [
            Row(self._run(config), status, json.loads(result) if result else None, error, seconds)
            for key, config, status, result, error, seconds in found
            if keys is None or key in keys
        ]


def _born(pid: int) -> str:
    """When a process started, so that a number used again is not mistaken for it; empty where /proc is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _alive(owner: str, beat: float) -> bool:
    host, pid, born = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return time.time() - beat < SILENT_AFTER
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _born(int(pid)) == born
