"""What makes two runs the same run: plain JSON that reads the same in every process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from secateur.errors import CheckpointError
from secateur.training.loader import Loader


def describe(thing: object) -> dict[str, Any]:
    """The name of a function, or the class of an object and, for a frozen dataclass, its numbers and strings.

    Other fields are left out: their text may hold addresses, or sets in an order that changes between processes.
    """
    if thing is None or hasattr(thing, "__qualname__"):
        return {"name": getattr(thing, "__qualname__", None)}
    frozen = getattr(getattr(thing, "__dataclass_params__", None), "frozen", False)
    values = {name: getattr(thing, name) for name in getattr(thing, "__dataclass_fields__", ())} if frozen else {}
    plain = {name: value for name, value in values.items() if isinstance(value, (bool, int, float, str))}
    return {"name": type(thing).__qualname__, "values": plain}


def describe_loader(loader: Loader) -> dict[str, Any]:
    """All that decides which batches come when, but for the examples themselves: of those, the number."""
    plain = {name: getattr(loader, name) for name in ("examples", "batch_size", "seed", "shuffle", "drop_last")}
    return plain | {"augment": describe(loader.augment), "transform": describe(loader.transform)}


def refuse_other(asked: dict[str, Any], stored: dict[str, Any], path: Path) -> None:
    """Raises CheckpointError, naming what differs, unless both describe the same run."""
    asked = json.loads(json.dumps(asked))
    differing = [
        f"{k} is {stored.get(k)!r} in the file and {asked[k]!r} here" for k in asked if asked[k] != stored.get(k)
    ]
    if differing:
        raise CheckpointError(
            f"{path} belongs to another configuration: {'; '.join(differing)}. Choose another path, or remove it."
        )
