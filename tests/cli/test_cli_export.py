"""`secateur export`."""

import json

import pytest
import torch
from safetensors.torch import save_file

from secateur.experiments.models import resolve
from secateur.integrations import export as module

PRUNE = ("prune", "--model", "digits-resnet", "--criterion", "l1", "--budget", "macs=0.5", "--out", "half.safetensors")


@pytest.fixture
def half(secateur):
    assert secateur(*PRUNE).code == 0
    return "half.safetensors"


def test_a_pruned_file_for_a_person_and_for_a_program(half, secateur, tmp_path):
    words = ("export", half, "--model", "digits-resnet", "--to", "onnx", "--out", "a/half.onnx")
    code, out, err = secateur(*words)
    assert (code, err) == (0, "")
    assert out.startswith("a/half.onnx: ")
    assert f"in {half}\ncheck: largest difference from torch: " in out
    code, out, err = secateur(*words, "--batch", 4, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["files"] == ["a/half.onnx"]
    assert found["bytes"] == (tmp_path / "a/half.onnx").stat().st_size
    assert found["weights_bytes"] == (tmp_path / half).stat().st_size
    assert found["difference"] <= 1e-4 < found["scale"]
    import onnx

    (given,) = onnx.load(tmp_path / "a/half.onnx").graph.input
    assert [d.dim_value for d in given.type.tensor_type.shape.dim] == [4, 1, 8, 8]


def test_dense_weights_with_an_open_batch(secateur, tmp_path):
    save_file(resolve("digits-resnet").state_dict(), tmp_path / "dense.safetensors")
    words = ("export", "dense.safetensors", "--model", "digits-resnet", "--to", "torch", "--out", "dense.pt2")
    assert secateur(*words, "--dynamic-batch").code == 0
    program = torch.export.load(tmp_path / "dense.pt2").module()
    assert program(torch.ones(7, 1, 8, 8)).shape == (7, 10)


def test_two_files_of_openvino(half, secateur, tmp_path):
    code, out, _ = secateur("export", half, "--model", "digits-resnet", "--to", "openvino", "--out", "m.xml")
    assert code == 0
    assert out.startswith("m.xml and m.bin: ")
    assert {f.name for f in tmp_path.iterdir()} == {half, "m.xml", "m.bin"}


def test_what_differs_is_code_3(half, secateur, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_compare", lambda *_: (0.5, 1.0))
    code, out, err = secateur("export", half, "--model", "digits-resnet", "--to", "onnx", "--out", "m.onnx")
    assert (code, out) == (3, "")
    assert "ExportError: onnx: the exported ResNet differs from the model by 0.5" in err
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("half.safetensors", "--model", "digits-resnet", "--to", "onnx", "--out", "m.xml"), 2, "ends in .onnx"),
        (("half.safetensors", "--model", "digits-resnet", "--to", "tf", "--out", "m.tf"), 2, "'tf' is not one of"),
        (("none.safetensors", "--model", "digits-resnet", "--to", "onnx", "--out", "m.onnx"), 4, "there is no weights"),
        (("half.safetensors", "--model", "resnet20", "--to", "onnx", "--out", "m.onnx"), 4, "WrongArchitecture"),
    ],
)
def test_what_is_refused(words, code, message, half, secateur):
    got, out, err = secateur("export", *words)
    assert (got, out) == (code, "")
    assert message in " ".join(err.split())
