"""Example inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs; their shapes as plain JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadExample

Place = tuple[int | str, ...]
Example = Tensor | tuple[Any, ...] | dict[str, Any]


def as_call(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the call that the example stands for.

    Raises `BadExample` when the example is of another type or holds no tensor at all.
    """
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, (tuple, list)):
        args, kwargs = tuple(example), {}
    elif isinstance(example, dict):
        args, kwargs = (), dict(example)
    else:
        raise BadExample(
            f"the example is a {type(example).__name__}; give a tensor, a tuple of inputs, or a dict of keyword inputs"
        )
    if not any(True for _ in tensors((args, kwargs))):
        raise BadExample(f"the example {example!r} holds no tensor; give the inputs the model's forward takes")
    return args, kwargs


def call(model: nn.Module, example: Example) -> Any:
    """Call the model on the example."""
    args, kwargs = as_call(example)
    return model(*args, **kwargs)


def map_tensors(tree: Any, f: Callable[[Tensor], Any]) -> Any:
    """The same nest of tuples, lists, dicts and dataclass-like mappings with `f` applied to each tensor."""
    if isinstance(tree, Tensor):
        return f(tree)
    if isinstance(tree, dict):
        return {k: map_tensors(v, f) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(map_tensors(v, f) for v in tree)
    return tree


def map_places(tree: Any, f: Callable[[Place, Tensor], Any], place: Place = ()) -> Any:
    """As `map_tensors`, with `f` told where in the nest each tensor is."""
    if isinstance(tree, Tensor):
        return f(place, tree)
    if isinstance(tree, dict):
        return {k: map_places(v, f, (*place, k)) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(map_places(v, f, (*place, i)) for i, v in enumerate(tree))
    return tree


def tensors(tree: Any) -> list[Tensor]:
    """All tensors in a nest, in order; objects that are no container are searched attribute by attribute."""
    return _search(tree, lambda node: False, [], set())


def results(output: Any) -> list[Tensor]:
    """The tensors that a model gives; a cache of keys and values is its own memory, which may shrink with it."""
    return _search(output, lambda node: any(kind.__name__.endswith("Cache") for kind in type(node).__mro__), [], set())


def _search(node: Any, skip: Callable[[Any], bool], found: list[Tensor], seen: set[int]) -> list[Tensor]:
    if isinstance(node, Tensor):
        found.append(node)
    elif isinstance(node, (dict, tuple, list)):
        for value in node.values() if isinstance(node, dict) else node:
            _search(value, skip, found, seen)
    elif hasattr(node, "__dict__") and not isinstance(node, (type, nn.Module)) and id(node) not in seen:
        seen.add(id(node))
        if not skip(node):
            _search(vars(node), skip, found, seen)
    return found


def to_json(example: Example) -> Any:
    """Shapes and dtypes as plain JSON, enough to trace a fresh model without the data."""
    if isinstance(example, Tensor):
        return {"tensor": list(example.shape), "dtype": str(example.dtype).removeprefix("torch.")}
    if isinstance(example, dict):
        return {"dict": {k: to_json(v) for k, v in example.items()}}
    if isinstance(example, (tuple, list)):
        return {"tuple": [to_json(v) for v in example]}
    if example is None or isinstance(example, (bool, int, float, str)):
        return {"value": example}
    raise BadExample(
        f"an input of type {type(example).__name__} cannot be stored; use tensors, numbers, strings or None"
    )


def from_json(spec: Any) -> Any:
    """Zero tensors of the shapes that `to_json` wrote."""
    if "tensor" in spec:
        return torch.zeros(spec["tensor"], dtype=getattr(torch, spec["dtype"]))
    if "dict" in spec:
        return {k: from_json(v) for k, v in spec["dict"].items()}
    if "tuple" in spec:
        return tuple(from_json(v) for v in spec["tuple"])
    return spec["value"]
