"""Large models in several safetensors files: the file by itself, its shards beside it, and the index others read.

The first file holds the plan and names its shards, and is put in place last: a write that is killed leaves what was
there before whole. The index, `NAME.index.json`, is the one that hubs use: weight name -> file.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import files
from ..errors import CheckpointError

SHARD = "shard of a pruned model"


def write(path: Path, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], limit: int) -> None:
    """One file up to `limit` bytes of tensors; above, shards of at most that size (or of one tensor that is larger).

    Raises `CheckpointError`; what was at `path` is then intact.
    """
    if limit <= 0:
        raise CheckpointError(f"max_shard_bytes={limit!r}: give a number of bytes above 0")
    parts = _parts(tensors, limit)
    before = _listed(path)
    if len(parts) == 1:
        files.write(path, kind, tensors, facts)
    else:
        token = secrets.token_hex(4)  # a new name each time: shards of an older write stay until the file is replaced
        names = [f"{path.stem}-{token}-{i:05d}-of-{len(parts):05d}.safetensors" for i in range(1, len(parts) + 1)]
        for name, part in zip(names, parts, strict=True):
            files.write(path.with_name(name), SHARD, part, {})
        index = {"metadata": {}, "weight_map": {t: n for n, part in zip(names, parts, strict=True) for t in part}}
        files.write(path, kind, {}, {**facts, "shards": names})
        path.with_name(f"{path.name}.index.json").write_text(json.dumps(index, indent=1))
    for name in before:
        path.with_name(name).unlink(missing_ok=True)
    if len(parts) == 1:
        path.with_name(f"{path.name}.index.json").unlink(missing_ok=True)


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a file and its shards. Raises `CheckpointError`."""
    tensors, facts = files.read(path, kind)
    for name in facts.get("shards", ()):
        tensors |= files.read(path.with_name(name), SHARD)[0]
    return tensors, facts


def _listed(path: Path) -> list[str]:
    """The shards of what is at `path` now; what cannot be read has none that we know of."""
    if not path.exists():
        return []
    try:
        return list(files.facts(path).get("shards", ()))
    except CheckpointError:
        return []


def _parts(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """In order, up to so many bytes each; names of one and the same memory stay together."""
    shared: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in tensors.items():
        key = (tensor.device, tensor.data_ptr()) if tensor.numel() else (name,)
        shared.setdefault(key, []).append(name)
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for names in shared.values():
        taken = tensors[names[0]].numel() * tensors[names[0]].element_size()
        if parts[-1] and size + taken > limit:
            parts.append({})
            size = 0
        parts[-1].update({name: tensors[name] for name in names})
        size += taken
    return parts
