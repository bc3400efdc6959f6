"""Files for other software: they say what the model says, or are not written."""

import pickletools
import zipfile

import pytest
import torch
from torch import nn

import secateur
from nets import fill
from secateur.engines.onnx import from_onnx
from secateur.errors import BadOption, CheckpointError, ExportError, UnknownName
from secateur.experiments.models import example_for, resolve
from secateur.integrations import export as module
from secateur.integrations.export import export

X = example_for("digits-resnet")
NAMES = {"onnx": "m.onnx", "openvino": "m.xml", "torch": "m.pt2"}


@pytest.fixture(scope="module")
def small():
    net = fill(resolve("digits-resnet")).train()
    return secateur.prune(net, X, budget=secateur.Budget(macs=0.5)).model


def linear(scale=1.0):
    net = nn.Linear(3, 2)
    nn.init.constant_(net.weight, scale)
    return net


def close(model, said):
    x = torch.cat([X, X + 1, X - 1])
    with torch.no_grad():
        wanted = model.eval()(x)
    model.train()
    return (wanted - said(x)).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("to", NAMES)
def test_a_cut_network_with_an_open_batch(small, to, tmp_path):
    made = export(small, X, tmp_path / NAMES[to], to, dynamic_batch=True)
    assert made.files[0] == tmp_path / NAMES[to]
    assert sorted(made.files) == sorted(tmp_path.iterdir())
    assert made.bytes == sum(f.stat().st_size for f in tmp_path.iterdir())
    weights = sum(t.nbytes for t in small.state_dict().values() if t.dim() == 4)
    assert weights < made.bytes < 2 * weights  # full precision, once
    assert 0 <= made.difference <= 1e-5
    assert made.scale > 0.01
    assert small.training
    if to == "onnx":
        content = made.files[0].read_bytes()
        assert close(small, lambda x: from_onnx(content, {"input": x.numpy()}).outputs()[0])
    elif to == "torch":
        assert close(small, torch.export.load(made.files[0]).module())


def test_a_program_holds_no_pickle(tmp_path):
    export(linear(), torch.ones(2, 3), tmp_path / "m.pt2", "torch")
    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert any("weight" in name for name in held)
    for name, content in held.items():
        assert not content.startswith((b"\x80\x02", b"PK")), name
        with pytest.raises(Exception):  # noqa: B017  whatever it is, it is no pickle
            list(pickletools.genops(content))


@pytest.mark.parametrize("to", NAMES)
def test_what_says_something_else_is_not_written(to, tmp_path, monkeypatch):
    maker = "to_exported_program" if to == "torch" else "to_onnx"
    original = getattr(module, maker)
    monkeypatch.setattr(module, maker, lambda model, *a, **k: original(linear(1.001), *a, **k))
    (tmp_path / NAMES[to]).write_text("before")
    with pytest.raises(ExportError, match=r"differs from the model by .* Nothing was written"):
        export(linear(), torch.ones(2, 3), tmp_path / NAMES[to], to)
    assert [f.name for f in tmp_path.iterdir()] == [NAMES[to]]
    assert (tmp_path / NAMES[to]).read_text() == "before"
    assert export(linear(), torch.ones(2, 3), tmp_path / NAMES[to], to, tolerance=0.1).difference > 1e-4


def test_not_a_number_is_refused(tmp_path):
    with pytest.raises(ExportError, match="nan"):
        export(linear(float("nan")), torch.ones(2, 3), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("to", "name", "error"),
    [("tflite", "m.tflite", UnknownName), ("onnx", "m.xml", BadOption), ("torch", "m", BadOption)],
)
def test_names_are_checked_first(to, name, error, tmp_path):
    with pytest.raises(error):
        export(nn.Identity(), torch.ones(1), tmp_path / name, to)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        export(linear(), torch.ones(2, 3), tmp_path / "file" / "m.onnx")
