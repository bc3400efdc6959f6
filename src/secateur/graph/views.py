"""Views: layers that see a parameter in part, turned, or in another shape; labels tell what of it they see."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .labels import Axis, is_live


def is_whole(seen: Iterable[Axis], own: Iterable[Axis]) -> bool:
    """Whether a view holds the very axes of a parameter, in some order, and besides only repeats of a single index."""
    held, whole = ({id(a) for a in axes if a.size > 1 and is_live(a)} for axes in (seen, own))
    return held == whole


def place(own: Iterable[Axis], written: Axis) -> int | None:
    """The axis of a parameter that holds all of these labels."""
    return next((d for d, axis in enumerate(own) if axis is written or np.isin(written, axis).all()), None)
