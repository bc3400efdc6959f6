"""Single ops as ONNX, for engines that read it; the profile of the engine says how long each took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cost.ops import Op
from ..engines.base import Runner, optional
from ..errors import BadOption

RUNS = 9
QUARTILE = 0.25


def times(engine: str, ops: Sequence[Op], threads: int) -> list[float]:
    """Milliseconds of each op alone, the lower quartile of several runs; layout changes around it are left out."""
    content, inputs = model_of(ops)
    if engine == "onnxruntime":
        return _onnxruntime(content, inputs, threads, len(ops))
    if engine == "openvino":
        return _openvino(content, inputs, threads, len(ops))
    raise BadOption(f"engine {engine!r} reads no ONNX")


def model_of(ops: Sequence[Op]) -> tuple[bytes, dict[str, np.ndarray]]:
    """One model of all ops side by side, and its inputs; node i is called yi, as its output."""
    onnx: Any = optional("onnx", "export")
    make, rng = onnx.helper, np.random.default_rng(0)
    nodes, weights, inputs, outputs, held = [], [], [], [], {}
    for i, op in enumerate(ops):
        shape, weight, attributes = _told(op)
        nodes.append(make.make_node(_type(op), [f"x{i}", f"w{i}"], [f"y{i}"], name=f"y{i}", **attributes))
        held[f"x{i}"] = rng.standard_normal(shape, dtype=np.float32)
        inputs.append(make.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, shape))
        array = rng.standard_normal(weight, dtype=np.float32)
        if op.kind == "gemm" and op.lengths[0] > 1:  # both sides are activations
            held[f"w{i}"] = array
            inputs.append(make.make_tensor_value_info(f"w{i}", onnx.TensorProto.FLOAT, weight))
        else:
            weights.append(onnx.numpy_helper.from_array(array, f"w{i}"))
        outputs.append(make.make_tensor_value_info(f"y{i}", onnx.TensorProto.FLOAT, None))
    graph = make.make_graph(nodes, "ops", inputs, outputs, weights)
    made = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)
    return made.SerializeToString(), held


def _type(op: Op) -> str:
    if op.kind == "gemm":
        return "MatMul"
    return "ConvTranspose" if op.conv is not None and op.conv.transposed else "Conv"


def _told(op: Op) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of input and weight, and attributes."""
    if op.conv is None:
        batch, m, k, n = op.lengths
        return ((batch, m, k), (batch, k, n), {}) if batch > 1 else ((m, k), (k, n), {})
    conv, out, read = op.conv, op.lengths[0], op.lengths[-1]
    groups = out if op.kind == "depthwise" else conv.groups
    weight = (read, out // groups) if conv.transposed else (out, read // groups)
    attributes = {
        "kernel_shape": conv.kernel,
        "strides": conv.walk.stride,
        "pads": (*conv.walk.padding, *conv.walk.padding),
        "dilations": conv.walk.dilation,
        "group": groups,
    }
    return (conv.batch, read, *conv.size), (*weight, *conv.kernel), attributes


def _onnxruntime(content: bytes, inputs: dict[str, np.ndarray], threads: int, count: int) -> list[float]:
    from ..engines.onnx import from_onnx

    runner = from_onnx(content, inputs, threads=threads, profile=True)
    with runner:
        _run(runner)
        events = json.loads(Path(runner.session.end_profiling()).read_text())
    found: dict[str, list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            found.setdefault(name.removesuffix("_kernel_time"), []).append(event["dur"] / 1000)
    own = {name.removesuffix("_nchwc"): values for name, values in found.items()}
    return [float(np.quantile(own[f"y{i}"][1:], QUARTILE)) for i in range(count)]


def _openvino(content: bytes, inputs: dict[str, np.ndarray], threads: int, count: int) -> list[float]:
    from ..engines.openvino import from_onnx

    taken: dict[str, list[float]] = {}
    runner = from_onnx(content, inputs, threads=threads, profile=True)
    with runner:
        for number in range(RUNS + 1):
            runner()
            for name, (_, spent) in runner.nodes().items() if number else ():
                taken.setdefault(name, []).append(spent)
    return [float(np.quantile(taken[f"y{i}"], QUARTILE)) for i in range(count)]


def _run(runner: Runner) -> None:
    for _ in range(RUNS + 1):
        runner()
