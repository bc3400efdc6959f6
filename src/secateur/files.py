"""Files that are always whole: written beside the old one, flushed, then put in its place.

A write that is killed leaves the file before it as it was. No pickle: tensors with JSON in the header, or text.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from secateur.errors import CheckpointError

KEY = "secateur"


def write(path: Path, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Store tensors and JSON facts, replacing `path` in one step; tensors that are one and the same are stored once.

    Raises CheckpointError where the file cannot be written (a full disk, no permission); the file at `path` is intact.
    """
    kept, aliases = _distinct(tensors)
    text = json.dumps({"kind": kind, "facts": facts, "aliases": aliases})
    # One key: the order of several in the header is not the same in every process.
    header = {KEY: json.dumps({"checksum": checksum(kept, text), "text": text})}
    with _replacing(path) as place:
        save_file(kept, place, header)


def write_text(path: Path, text: str) -> None:
    """Store text as UTF-8, replacing `path` in one step. Raises CheckpointError as `write` does."""
    with _replacing(path) as place:
        place.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Store bytes as they are, replacing `path` in one step. Raises CheckpointError as `write` does."""
    with _replacing(path) as place:
        place.write_bytes(content)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Where to write what then takes the place of `path`, whole or not at all."""
    # A folder of its own: safetensors writes beside its target, under a random name that a kill would leave behind.
    stage = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean(path)
        stage.mkdir()
        yield stage / path.name
        _flush(stage / path.name)
        os.replace(stage / path.name, path)
        stage.rmdir()
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(stage, ignore_errors=True)  # the disk may refuse this too; the next write cleans up
        raise CheckpointError(f"cannot write {path}: {error}. What was there before is intact.") from error


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts that `write` stored.

    Raises CheckpointError, naming the path, for a file that is missing, damaged, foreign, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # Copies: what safetensors gives may be the mapped file itself.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}. It is missing, cut short or damaged.") from error
    if KEY not in header:
        raise CheckpointError(f"{path} was not written by secateur: its header has no {KEY!r}.")
    try:
        outer = json.loads(header[KEY])
        whole = outer["checksum"] == checksum(tensors, outer["text"])
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: its header cannot be read ({error}). Write it anew.") from error
    if not whole:
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its content. Write it anew.")
    content = json.loads(outer["text"])
    if content["kind"] != kind:
        raise CheckpointError(f"{path} holds a {content['kind']}, not a {kind}.")
    return tensors | {alias: tensors[name] for alias, name in content["aliases"].items()}, content["facts"]


def facts(path: Path) -> dict[str, Any]:
    """The facts of a file, whatever its kind, without its tensors; their bytes are not checked.

    Raises CheckpointError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads(json.loads((file.metadata() or {})[KEY])["text"])["facts"]
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"cannot read {path}: {error}.") from error
    return dict(found)


def _distinct(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous copies on the CPU (safetensors refuses shared memory), and the names of those met before."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple, str] = {}
    for name, tensor in tensors.items():
        same = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and same in seen:
            aliases[name] = seen[same]
        else:
            seen[same] = name
            kept[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return kept, aliases


def checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """CRC-32 over names, types, shapes, bytes and facts: safetensors itself notices no flipped bit in the data."""
    value = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def _clean(path: Path) -> None:
    """Remove what killed writes left behind: of this file, and of its neighbours where the writer lives no more."""
    for leftover in path.parent.glob("*.tmp"):
        name, _, writer = leftover.name.removesuffix(".tmp").rpartition(".")
        dead = name.endswith(".safetensors") and writer.isdigit() and not _lives(int(writer))
        if name == path.name or dead:
            shutil.rmtree(leftover, ignore_errors=True)  # somebody else may be at it too


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _flush(path: Path) -> None:
    """Make sure that a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
