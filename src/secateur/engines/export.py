"""A model as ONNX bytes or as a program of torch.export: what other engines read."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..graph.example import Example, as_call, call, results, tensors
from .base import floats, in_eval, optional
from .batch import batch_size, with_batch

LIMIT = 2**31 - 2**20  # bytes that one ONNX file may hold, less room for the graph itself
BATCH = "batch"


def to_onnx(model: nn.Module, example: Example, *, dynamic_batch: bool = False) -> bytes:
    """The model in ONNX, weights inline, at the exporter's own opset; its outputs are the model's float tensors.

    Inputs are named by `input_names`, outputs `output_0`, `output_1`, ... With `dynamic_batch` the first size of every
    input is left open. Raises `ExportError`, `MissingDependency`, `BadExample`.
    """
    for library in ("onnx", "onnxscript"):
        optional(library, "export")
    _small_enough(model)
    ready = _plain(in_eval(model))
    with torch.no_grad():
        count = len(floats(call(ready, example)))
    if count == 0:
        raise ExportError(f"onnx: {type(model).__name__} gives no float tensor; try a wrapper whose forward gives one")
    names, given = input_names(ready, example), [f"output_{i}" for i in range(count)]
    program = _program(ready, example, dynamic_batch)
    shapes = tuple({0: _open()} for _ in names) if dynamic_batch else None  # ONNX takes the name of the size from here
    with _refusals("onnx", model), quiet():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=names, output_names=given, dynamic_shapes=shapes
        )
        assert made is not None
        return bytes(made.model_proto.SerializeToString())


def to_exported_program(
    model: nn.Module, example: Example, *, dynamic_batch: bool = False
) -> torch.export.ExportedProgram:
    """The program that `torch.export` reads from the model in eval mode; the model is left as it was.

    It gives what the model gives; where that holds a cache of keys and values, the float tensors alone. With
    `dynamic_batch` the first size of every input is left open. Raises `ExportError`, `BadExample`.
    """
    ready = in_eval(model)
    with torch.no_grad():
        output = call(ready, example)
    cached = len(results(output)) < len(tensors(output))
    return _program(_plain(ready) if cached else ready, example, dynamic_batch)


def _program(model: nn.Module, example: Example, dynamic_batch: bool) -> torch.export.ExportedProgram:
    shapes = None
    if dynamic_batch:
        example = with_batch(example, max(2, batch_size(example)))  # exporters write a size of 1 into the program
        shapes = _open_batch(model, example)
    args, kwargs = as_call(ordered(model, example))
    with _refusals("torch.export", model), quiet(), torch.no_grad():
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes)


def input_names(model: nn.Module, example: Example) -> list[str]:
    """Names of the tensors of the example, in the order of an exported file's inputs.

    A keyword gives its name; positional inputs are `input`, or `input_0`, `input_1`, ... where there are several.
    """
    if not isinstance(example, dict):
        count = len(tensors(example))
        return ["input"] if count == 1 else [f"input_{i}" for i in range(count)]
    named: list[str] = []
    for key, value in ordered(model, example).items():  # type: ignore[union-attr]  # a dict stays one
        count = len(tensors(value))
        named += [key] if count == 1 else [f"{key}_{i}" for i in range(count)]
    return named


def ordered(model: nn.Module, example: Example) -> Example:
    """Keyword inputs in the order of the forward's signature, which is that of exporters; others as they are."""
    if not isinstance(example, dict):
        return example
    order = {name: i for i, name in enumerate(inspect.signature(model.forward).parameters)}
    return dict(sorted(example.items(), key=lambda item: order.get(item[0], len(order))))


def reason(error: BaseException) -> str:
    """The first line of what lies at the bottom of an error."""
    while (inner := error.__cause__ or getattr(error, "inner_exception", None)) is not None:
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No prints, no warnings and no log lines below errors; exceptions come through."""
    level, said = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def loading(engine: str) -> Iterator[None]:
    """Whatever an engine raises as it reads a model, as `ExportError`."""
    try:
        yield
    except Exception as error:
        raise ExportError(
            f"{engine} cannot load the model in ONNX: {reason(error)}. Try another engine, or a newer {engine}."
        ) from error


@contextlib.contextmanager
def _refusals(exporter: str, model: nn.Module) -> Iterator[None]:
    """Whatever an exporter raises, as `ExportError`: their kinds of errors are many and private."""
    try:
        yield
    except Exception as error:
        raise ExportError(
            f"{exporter}: {type(model).__name__} cannot be exported: {reason(error)}. "
            "Try an input of another shape, or a forward without branches on the values of tensors."
        ) from error


def _small_enough(model: nn.Module) -> None:
    size = sum({id(t): t.nbytes for t in (*model.parameters(), *model.buffers())}.values())
    if size > LIMIT:
        raise ExportError(
            f"onnx: {type(model).__name__} holds {size / 2**30:.3g} GiB of weights, and one ONNX file holds 2 GiB. "
            "Try a smaller budget, model.half(), or to_exported_program, which has no limit."
        )


def _plain(model: nn.Module) -> nn.Module:
    """The model's forward, in place, made to give its float tensors alone: neither caches nor classes of a library."""
    inner = model.forward

    @wraps(inner)  # exporters read the signature, and name inputs by it
    def forward(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return floats(inner(*args, **kwargs))

    model.forward = forward
    return model


def _open() -> Any:
    return torch.export.Dim(BATCH, min=1)


def _open_batch(model: nn.Module, example: Example) -> Any:
    """The shapes that torch.export takes: the first size of every tensor is one and the same unknown."""
    batch = _open()

    def opened(tree: Any) -> Any:
        if isinstance(tree, Tensor):
            return {0: batch}
        if isinstance(tree, dict):
            return {k: opened(v) for k, v in tree.items()}
        return type(tree)(opened(v) for v in tree) if isinstance(tree, (tuple, list)) else None

    args, kwargs = as_call(ordered(model, example))
    return opened(kwargs) if kwargs else opened(args)
