"""Engines are found by name, leave the model alone, and say what is missing."""

import sys

import pytest
import torch
from engine_nets import cut
from torch import nn

from secateur.engines.base import ENGINES, Runner, floats, in_eval, optional
from secateur.errors import MissingDependency, UnknownName


def test_the_engines():
    assert list(ENGINES.all()) == ["compile", "eager", "onnxruntime", "openvino"]
    with pytest.raises(UnknownName, match="Did you mean 'onnxruntime'"):
        ENGINES.make("onnx-runtime")


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
def test_versions(name):
    library, version = ENGINES.make(name).version().split()
    assert library == ("torch" if name == "eager" else name)
    assert sys.modules[library].__version__.startswith(version)


def test_a_copy_in_eval_mode_shares_parameters_and_no_statistics():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).train()
    copied = in_eval(model)
    assert model.training
    assert not any(m.training for m in copied.modules())
    assert all(a is b for a, b in zip(model.parameters(), copied.parameters(), strict=True))
    copied[1].running_mean.add_(1)
    assert model[1].running_mean.sum() == 0


def test_floats_leave_out_caches_and_whole_numbers():
    model, example = cut("gpt2")
    output = model(**example)
    assert output.past_key_values is not None
    assert [t.shape for t in floats(output)] == [output.logits.shape]
    assert [t.shape for t in floats((torch.ones(2), [torch.arange(3), torch.ones(4)]))] == [(2,), (4,)]


def test_what_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"onnxruntime .*pip install 'secateur\[export\]'"):
        ENGINES.make("onnxruntime").check()
    with pytest.raises(MissingDependency):
        optional("onnxruntime", "export")


def test_a_runner_ends_with_its_block():
    closed = []

    class Own(Runner):
        def close(self):
            closed.append(self)

    with Own() as runner:
        assert closed == []
    assert closed == [runner]
    with pytest.raises(NotImplementedError, match="Own does not define"):
        runner()


def test_conversion_serves_several_numbers_of_threads():
    model, example = cut("digits")
    make = ENGINES.make("eager").convert(model, example)
    assert torch.equal(make(1).outputs()[0], make(2).outputs()[0])
