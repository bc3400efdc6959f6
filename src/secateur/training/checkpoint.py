"""The checkpoint of a training run: a file of ours with a kind of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from secateur import files

KIND = "training checkpoint"


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Store tensors and facts in one step. Raises CheckpointError; what was there before is then intact."""
    files.write(path, KIND, tensors, facts)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` stored. Raises CheckpointError for a file that is missing, damaged, or not a checkpoint."""
    return files.read(path, KIND)
