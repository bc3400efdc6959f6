"""Export a model and run what came of it, without the exporters' chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.example import map_tensors, tensors


@contextlib.contextmanager
def hushed() -> Any:
    """No prints, no warnings, no log lines below errors."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments."""
    return ((), dict(example)) if isinstance(example, dict) else ((example,), {})


def exported(model: nn.Module, example: Any, **options: Any) -> torch.export.ExportedProgram:
    """The program of `torch.export`."""
    args, kwargs = arguments(example)
    with hushed(), torch.no_grad():
        return torch.export.export(model.eval(), args, kwargs, **options)


def by_onnxruntime(program: torch.export.ExportedProgram, example: Any) -> list[Tensor]:
    """The program in ONNX, run by onnxruntime on the CPU."""
    import onnxruntime

    file = io.BytesIO()
    with hushed():
        made = torch.onnx.export(program, dynamo=True, verbose=False)
    assert made is not None
    made.save(file)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    given = tensors(map_tensors(example, lambda t: t))
    names = [i.name for i in session.get_inputs()]
    assert len(names) == len(given)
    feed = {name: t.numpy() for name, t in zip(names, given, strict=True)}
    return [torch.from_numpy(y) for y in session.run(None, feed)]


def gap(a: Tensor, b: Tensor) -> float:
    """The largest difference relative to the largest value."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / a.abs().max()).item()
