"""onnxruntime: a model in ONNX, on the CPU provider."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import BadOption
from ..graph.example import Example, tensors
from .base import Engine, Runner, engine, optional
from .export import input_names, loading, ordered, to_onnx

QUIET = 4  # onnxruntime's level: fatal errors alone


@engine("onnxruntime")
@dataclass(frozen=True)
class OnnxRuntime(Engine):
    """onnxruntime: every graph optimisation, operators one after the other, each on so many threads."""

    def version(self) -> str:
        """Such as `onnxruntime 1.31.1`."""
        return f"onnxruntime {optional('onnxruntime', 'export').__version__}"

    def check(self) -> None:
        """Raise `MissingDependency` where onnxruntime, onnx or onnxscript is not installed."""
        for library in ("onnxruntime", "onnx", "onnxscript"):
            optional(library, "export")

    def prepare(self, model: nn.Module, example: Example, *, threads: int = 1) -> Runner:
        """The model exported to ONNX and loaded. Raises `ExportError`, `MissingDependency`."""
        return self.convert(model, example)(threads)

    def convert(self, model: nn.Module, example: Example) -> Callable[[int], Runner]:
        """Exported to ONNX once, to be loaded for any number of threads."""
        self.check()
        content, inputs = to_onnx(model, example), arrays(model, example)
        return lambda threads: from_onnx(content, inputs, threads=threads)


def arrays(model: nn.Module, example: Example) -> dict[str, np.ndarray]:
    """The tensors of the example by the names that `to_onnx` gives them."""
    held = [t.detach().cpu().contiguous().numpy() for t in tensors(ordered(model, example))]
    return dict(zip(input_names(model, example), held, strict=True))


def from_onnx(model: bytes, inputs: Mapping[str, np.ndarray], *, threads: int = 1, profile: bool = False) -> OnnxRunner:
    """ONNX bytes loaded, with these inputs bound; with `profile`, `nodes()` says where the time goes.

    Raises `MissingDependency`, `ExportError` for a model it cannot load, `BadOption` for inputs that it does not take.
    """
    return OnnxRunner(model, inputs, threads, profile)


class OnnxRunner(Runner):
    """A session of onnxruntime with inputs bound. `session` is open to those who need more of it."""

    def __init__(self, model: bytes, inputs: Mapping[str, np.ndarray], threads: int, profile: bool) -> None:
        runtime: Any = optional("onnxruntime", "export")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = QUIET
        # Threads of a session that has ended its run would go on spinning on the cores of the next one.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._folder = tempfile.TemporaryDirectory() if profile else None
        if self._folder is not None:
            options.enable_profiling, options.profile_file_prefix = True, os.path.join(self._folder.name, "run")
        with loading("onnxruntime"):
            self.session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        check_names(inputs, [i.name for i in self.session.get_inputs()])
        self._binding = self.session.io_binding()
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        for output in self.session.get_outputs():
            self._binding.bind_output(output.name, "cpu")

    def __call__(self) -> None:
        """Run once."""
        self.session.run_with_iobinding(self._binding)

    def outputs(self) -> tuple[Tensor, ...]:
        """What one run gives."""
        self()
        return as_floats(self._binding.copy_outputs_to_cpu())

    def nodes(self) -> dict[str, tuple[str, float]]:
        """Name -> (kind of operator, mean milliseconds a run) of all runs so far; profiling ends here.

        Raises `BadOption` for a runner made without `profile`.
        """
        if self._folder is None:
            raise BadOption("this runner keeps no profile: make it with from_onnx(..., profile=True)")
        events = json.loads(Path(self.session.end_profiling()).read_text())
        runs = sum(event["name"] == "model_run" for event in events)
        found: dict[str, tuple[str, float]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                name = event["name"].removesuffix("_kernel_time")
                spent = found.get(name, ("", 0.0))[1] + event["dur"] / 1000 / runs
                found[name] = (event["args"]["op_name"], spent)
        return found

    def close(self) -> None:
        """Free the session, and what its profile took on the disk."""
        folder = self._folder
        super().close()
        if folder is not None:
            folder.cleanup()


def check_names(inputs: Mapping[str, np.ndarray], wanted: list[str]) -> None:
    """Raise `BadOption` unless the inputs given are those of the model."""
    if set(inputs) != set(wanted):
        raise BadOption(f"inputs {sorted(inputs)} given, and the ONNX model takes {sorted(wanted)}; give those")


def as_floats(found: list[np.ndarray]) -> tuple[Tensor, ...]:
    """The float arrays as tensors of their own."""
    return tuple(t for t in (torch.from_numpy(np.array(a)) for a in found) if t.is_floating_point())
