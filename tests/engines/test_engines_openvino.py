"""OpenVINO says what the model says, in float32, and sends nothing to anybody."""

import os
import subprocess
import sys

import pytest
import torch
from engine_nets import cut, gap, wanted
from torch import nn

from secateur.engines.export import to_onnx
from secateur.engines.openvino import OpenVino, from_file, from_onnx, library
from secateur.errors import BadOption, ExportError, MissingDependency

X = torch.randn(2, 5)


@pytest.mark.parametrize("name", ["digits", "vit", "gpt2"])
def test_it_says_what_the_model_says(name):
    model, example = cut(name)
    with OpenVino().prepare(model, example) as runner:
        runner()
        assert gap(wanted(model, example), runner.outputs()) < 1e-4
        assert runner.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
        settings = {n: runner.compiled.get_property(n) for n in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")}
    assert {n: int(v) for n, v in settings.items()} == {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    assert model.training


def test_bytes_files_and_where_the_time_goes(tmp_path):
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    file, given = to_onnx(model, X), {"input": X.numpy()}
    with from_onnx(file, given, profile=True) as runner:
        runner()
        kinds = [kind for kind, _ in runner.nodes().values()]
    assert {"Parameter", "Result"} < set(kinds)
    (tmp_path / "m.onnx").write_bytes(file)
    with from_file(tmp_path / "m.onnx", given) as runner:
        assert gap(wanted(model, X), runner.outputs()) < 1e-6
        with pytest.raises(BadOption, match="profile=True"):
            runner.nodes()
    with pytest.raises(BadOption, match="takes"):
        from_onnx(file, {"x": X.numpy()})
    with pytest.raises(ExportError, match="openvino cannot load"):
        from_onnx(file[:50], {})


def test_no_telemetry(tmp_path):
    """Its package leaves an identifier in the home folder before it sends anything."""
    script = (
        "import sys; import secateur.engines.openvino as own; own.OpenVino().check(); own.library()\n"
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry')]\n"
        "print(sys.modules['openvino.tools.ovc.telemetry_utils'].tm.__name__)"
    )
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=home, capture_output=True, text=True, check=True)
    assert done.stdout == "openvino.tools.ovc.telemetry_stub\n"
    assert list(tmp_path.iterdir()) == []


def test_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependency, match="onnxscript"):
        OpenVino().check()
    assert library() is sys.modules["openvino"]
