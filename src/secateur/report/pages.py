"""What all pages share: how their templates are read, and how a page is put in place."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import CheckpointError


def environment() -> Environment:
    """The templates of this package: text is escaped, and a name that is not there is an error."""
    return Environment(
        loader=PackageLoader("secateur.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def replace(path: Path, text: str) -> None:
    """Write a page in one step. Raises `CheckpointError`; what was there before is then intact."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the disk may refuse this too
            temporary.unlink()
        raise CheckpointError(f"cannot write {path}: {error}. What was there before is intact.") from error
