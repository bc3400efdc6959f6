"""What the pages of measurements share: their frame, how they were made, and their style."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from .origin import written
from .pages import environment


def render(template: str, found: Mapping[str, Any], **values: Any) -> str:
    """A template of the frame `measured.html.j2`, filled with what a command stored, and with `values` beside it."""
    made = environment()
    return made.get_template(template).render(found=found, written=written(), version=version("secateur"), **values)
