"""What all pages share: how their templates are read, and how a page is put in place."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..files import write_text


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
    write_text(path, text)
