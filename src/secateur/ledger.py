"""Numbers that are measured one by one, kept in one file: killed at any moment, what was written stays measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import files
from .errors import CheckpointError

EVERY = 5.0  # seconds between writes: at most so much work is lost
Key = tuple[str, str]
Progress = Callable[[int, int], None]  # (done, of how many)


class Ledger:
    """Rows of numbers by key. Within `with`, the file is written every few seconds, and at the end, however it comes.

    `facts` say what the rows were measured on, by the words that a refusal will use: {"weights": ..., "batches": ...}.
    One process writes a file; without a path all stays in memory.
    """

    def __init__(self, path: str | Path | None, kind: str, facts: Mapping[str, Any], width: int) -> None:
        """Takes up what the file holds. Raises `CheckpointError` where it was measured on something else."""
        self._path, self._kind = (None if path is None else Path(path)), kind
        self._facts, self._width = json.loads(json.dumps(facts)), width
        self._rows: dict[Key, Tensor] = {}
        self._written = 0.0
        if self._path is not None and self._path.exists():
            self._rows, found = read(self._path, kind)
            refuse_other(self._path, found, self._facts)

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def __getitem__(self, key: Key) -> Tensor:
        return self._rows[key]

    def __setitem__(self, key: Key, row: Tensor) -> None:
        """Enter a row (width,)."""
        self._rows[key] = row
        if time.monotonic() - self._written >= EVERY:
            self._write()

    def __enter__(self) -> Ledger:
        self._write()  # a place that cannot be written is refused before the work
        return self

    def __exit__(self, *error: object) -> None:
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        rows = list(self._rows.values())
        values = torch.stack(rows) if rows else torch.zeros(0, self._width, dtype=torch.float64)
        files.write(self._path, self._kind, {"values": values}, {"keys": list(self._rows), "facts": self._facts})
        self._written = time.monotonic()


def read(path: Path, kind: str) -> tuple[dict[Key, Tensor], dict[str, Any]]:
    """All rows of a file, and what they were measured on. Raises `CheckpointError`."""
    tensors, stored = files.read(path, kind)
    keys = [(str(owner), str(which)) for owner, which in stored["keys"]]
    return dict(zip(keys, tensors["values"], strict=True)), stored["facts"]


def refuse_other(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` that names what differs from what is asked."""
    differs = [name for name, fact in asked.items() if found.get(name) != fact]
    if differs:
        raise CheckpointError(
            f"{path} was measured on other {' and '.join(differs)} than these; choose another file, or remove it"
        )
