"""OpenVINO: a model in ONNX, on its CPU plugin, in float32. Its reports to its makers are left out."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import BadOption
from ..graph.example import Example
from .base import Engine, Runner, engine, optional
from .export import loading, to_onnx
from .onnx import arrays, as_floats, check_names

TELEMETRY = "openvino_telemetry"  # openvino goes without where it cannot be imported


@engine("openvino")
@dataclass(frozen=True)
class OpenVino(Engine):
    """OpenVINO: one stream on so many threads, arithmetic in float32 even where the CPU has bfloat16."""

    def version(self) -> str:
        """Such as `openvino 2026.4.1`."""
        return f"openvino {library().__version__.partition('-')[0]}"

    def check(self) -> None:
        """Raise `MissingDependency` where openvino, onnx or onnxscript is not installed."""
        library()
        for other in ("onnx", "onnxscript"):
            optional(other, "export")

    def prepare(self, model: nn.Module, example: Example, *, threads: int = 1) -> Runner:
        """The model exported to ONNX and loaded. Raises `ExportError`, `MissingDependency`."""
        return self.convert(model, example)(threads)

    def convert(self, model: nn.Module, example: Example) -> Callable[[int], Runner]:
        """Exported to ONNX once, to be loaded for any number of threads."""
        self.check()
        content, inputs = to_onnx(model, example), arrays(model, example)
        return lambda threads: from_onnx(content, inputs, threads=threads)


def library() -> Any:
    """openvino, imported without its telemetry, which would tell its makers of the import. Raises `MissingDependency`.

    Where somebody else has imported it before, that is done already.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == TELEMETRY}
    blocked: dict[str, Any] = {TELEMETRY: None, **dict.fromkeys(before)}  # None: importing it fails
    sys.modules.update(blocked)
    try:
        return optional("openvino", "export")
    finally:
        for name in blocked:
            del sys.modules[name]
        sys.modules.update(before)


def from_onnx(
    model: bytes, inputs: Mapping[str, np.ndarray], *, threads: int = 1, profile: bool = False
) -> OpenVinoRunner:
    """ONNX bytes loaded, with these inputs bound; with `profile`, `nodes()` says where the time goes.

    Raises `MissingDependency`, `ExportError` for a model it cannot load, `BadOption` for inputs that it does not take.
    """
    return OpenVinoRunner(io.BytesIO(model), inputs, threads, profile)


def from_file(path: Path, inputs: Mapping[str, np.ndarray], *, threads: int = 1) -> OpenVinoRunner:
    """As `from_onnx`, from a file that OpenVINO reads: its own `.xml` with the `.bin` beside it, or ONNX."""
    return OpenVinoRunner(path, inputs, threads, False)


class OpenVinoRunner(Runner):
    """A request of OpenVINO with inputs bound. `compiled` and `request` are open to those who need more of them."""

    def __init__(self, model: io.BytesIO | Path, inputs: Mapping[str, np.ndarray], threads: int, profile: bool) -> None:
        openvino = library()
        core = openvino.Core()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        # Unpinned: the machine's scheduler moves it off a busy core, as it does for the other engines.
        settings |= {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False, "PERF_COUNT": profile}
        with loading("openvino"):
            self.compiled = core.compile_model(core.read_model(model), "CPU", settings)
        check_names(inputs, [i.any_name for i in self.compiled.inputs])
        self.request = self.compiled.create_infer_request()
        self._held = {name: openvino.Tensor(array, shared_memory=True) for name, array in inputs.items()}
        for name, tensor in self._held.items():
            self.request.set_tensor(name, tensor)
        self._profile = profile

    def __call__(self) -> None:
        """Run once."""
        self.request.infer(share_outputs=True)

    def outputs(self) -> tuple[Tensor, ...]:
        """What one run gives."""
        self()
        return as_floats([self.request.get_output_tensor(i).data for i in range(len(self.compiled.outputs))])

    def nodes(self) -> dict[str, tuple[str, float]]:
        """Name -> (kind of operator, milliseconds) of the last run.

        Raises `BadOption` for a runner made without `profile`.
        """
        if not self._profile:
            raise BadOption("this runner keeps no profile: make it with from_onnx(..., profile=True)")
        return {n.node_name: (n.node_type, n.real_time.total_seconds() * 1000) for n in self.request.profiling_info}
