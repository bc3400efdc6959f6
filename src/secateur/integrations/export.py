"""A model as a file that other software runs, written only after that file said what the model says."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..engines import onnx, openvino
from ..engines.base import Runner, TorchRunner, floats, in_eval, optional
from ..engines.batch import batch_size, other_values, with_batch
from ..engines.export import ordered, quiet, to_exported_program, to_onnx
from ..errors import BadOption, ExportError, UnknownName
from ..files import write_bytes
from ..graph.example import Example, call

TOLERANCE = 1e-4  # of the largest output, for the largest difference
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
Load = Callable[[Example], Runner]


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from the model."""

    files: tuple[Path, ...]  # the first is the one to open
    bytes: int  # of all of them
    difference: float  # largest absolute difference from eager, as a part of `scale`
    scale: float  # largest absolute output of the model


def export(
    model: nn.Module,
    example: Example,
    path: str | Path,
    to: str = "onnx",
    *,
    dynamic_batch: bool = False,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write the model, in eval mode, for onnxruntime (`onnx`), OpenVINO (`openvino`) or `torch.export` (`torch`).

    What will be written is first loaded and run, on inputs of the example's shapes with other values, and of another
    batch size where `dynamic_batch` leaves that open. OpenVINO takes two files: weights lie beside PATH.xml, in
    PATH.bin. A `torch` file holds no pickle.

    Raises `ExportError` where the exporter refuses or the outputs differ by more than `tolerance` of the largest one,
    `UnknownName`, `BadOption` for another ending of the name, `CheckpointError`, `MissingDependency`, `BadExample`.
    """
    path = Path(path)
    _check_name(path, to)
    build: Any = {"onnx": _onnx, "openvino": _openvino, "torch": _torch}[to]
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / path.name
        load = build(model, example, stage, dynamic_batch)
        example = other_values(example)
        difference, scale = _compare(model, example, load)
        if dynamic_batch:
            other = _compare(model, with_batch(example, batch_size(example) + 1), load)
            difference, scale = max(difference, other[0]), max(scale, other[1])
        if not difference <= tolerance:  # NaN is refused too
            raise ExportError(
                f"{to}: the exported {type(model).__name__} differs from the model by {difference:.3g} of its largest "
                f"output ({scale:.3g}), and {tolerance:.3g} is allowed. Nothing was written. Try another format."
            )
        held = {path.with_name(file.name): file.read_bytes() for file in sorted(Path(folder).iterdir())}
    for file, content in held.items():  # in the order of names: PATH.bin before PATH.xml that needs it
        write_bytes(file, content)
    return Exported((path, *(f for f in held if f != path)), sum(map(len, held.values())), difference, scale)


def _check_name(path: Path, to: str) -> None:
    if to not in SUFFIXES:
        raise UnknownName("format to export to", to, SUFFIXES)
    if path.suffix != SUFFIXES[to]:
        raise BadOption(f"{str(path)!r}: a file for {to} ends in {SUFFIXES[to]}; name it so")


def _compare(model: nn.Module, example: Example, load: Load) -> tuple[float, float]:
    """Largest difference as a part of the largest output of the model, and that output."""
    with torch.no_grad():
        wanted = floats(call(in_eval(model), example))
    with load(example) as runner:
        said = runner.outputs()
    if [t.shape for t in wanted] != [t.shape for t in said]:
        shapes = [[list(t.shape) for t in given] for given in (said, wanted)]
        raise ExportError(f"the exported model gives outputs of shapes {shapes[0]}, and the model {shapes[1]}")
    scale = max(_largest(t) for t in wanted)
    gap = max(_largest(a.double() - b.double()) for a, b in zip(wanted, said, strict=True))
    return (gap / scale if scale else gap), scale


def _largest(t: Tensor) -> float:
    return float(t.abs().max()) if t.numel() else 0.0


def _onnx(model: nn.Module, example: Example, stage: Path, dynamic_batch: bool) -> Load:
    optional("onnxruntime", "export")
    stage.write_bytes(to_onnx(model, example, dynamic_batch=dynamic_batch))
    return lambda given: onnx.from_onnx(stage.read_bytes(), onnx.arrays(model, given))


def _openvino(model: nn.Module, example: Example, stage: Path, dynamic_batch: bool) -> Load:
    library = openvino.library()
    read = library.Core().read_model(io.BytesIO(to_onnx(model, example, dynamic_batch=dynamic_batch)))
    library.serialize(read, stage, stage.with_suffix(".bin"))  # save_model would halve the precision of weights
    return lambda given: openvino.from_file(stage, onnx.arrays(model, given))


def _torch(model: nn.Module, example: Example, stage: Path, dynamic_batch: bool) -> Load:
    program = to_exported_program(model, example, dynamic_batch=dynamic_batch)
    program.example_inputs = None  # torch would pickle them
    with quiet():
        torch.export.save(program, stage)
        run = torch.export.load(stage).module()
    return lambda given: TorchRunner(run, ordered(model, given))
