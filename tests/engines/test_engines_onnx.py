"""onnxruntime says what the model says, takes the inputs it names, and tells where the time goes."""

import numpy as np
import pytest
import torch
from engine_nets import cut, gap, wanted
from torch import nn

from secateur.engines.export import to_onnx
from secateur.engines.onnx import OnnxRuntime, arrays, from_onnx
from secateur.errors import BadOption, ExportError

X = torch.randn(2, 5)


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    return model, to_onnx(model, X)


@pytest.mark.parametrize("name", ["digits", "gpt2"])
def test_it_says_what_the_model_says(name):
    model, example = cut(name)
    with OnnxRuntime().prepare(model, example, threads=2) as runner:
        runner()
        assert gap(wanted(model, example), runner.outputs()) < 1e-4
    assert model.training


def test_bytes_and_arrays_by_name(linear):
    model, file = linear
    with from_onnx(file, {"input": X.numpy()}) as runner:
        assert gap(wanted(model, X), runner.outputs()) < 1e-6
        options = runner.session.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_other_inputs_are_refused(linear):
    with pytest.raises(BadOption, match=r"\['x'\] given, and the ONNX model takes \['input'\]"):
        from_onnx(linear[1], {"x": X.numpy()})


def test_what_is_no_model_is_refused(linear):
    with pytest.raises(ExportError, match="onnxruntime cannot load"):
        from_onnx(linear[1][:50], {})


def test_where_the_time_goes(linear):
    with from_onnx(linear[1], {"input": X.numpy()}, profile=True) as runner:
        for _ in range(3):
            runner()
        nodes = runner.nodes()
    assert sorted(kind for kind, _ in nodes.values()) == ["FusedGemm", "Gemm"]  # the first with its Tanh
    assert all(milliseconds >= 0 for _, milliseconds in nodes.values())
    with from_onnx(linear[1], {"input": X.numpy()}) as runner, pytest.raises(BadOption, match="profile=True"):
        runner.nodes()


def test_outputs_are_their_own(linear):
    with from_onnx(linear[1], {"input": X.numpy().copy()}) as runner:
        first = runner.outputs()[0]
        kept = first.clone()
        runner()
    assert torch.equal(first, kept)


def test_arrays_need_not_lie_in_one_piece(linear):
    turned = torch.randn(5, 2).t()
    assert arrays(linear[0], turned)["input"].flags["C_CONTIGUOUS"]
    assert np.array_equal(arrays(linear[0], turned)["input"], turned.numpy())
