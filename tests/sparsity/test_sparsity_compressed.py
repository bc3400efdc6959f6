"""A layer of compressed rows gives what the dense one gives, is plain tensors, and refuses to be trained."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from sparsity_cases import noise
from torch import nn

from secateur.errors import BadModel, CheckpointError
from secateur.sparsity.compressed import KERNELS, CompressedLinear


def holey(rows=12, inputs=9, bias=True, dtype=torch.float32):
    """A dense layer, two thirds zero, with a row and a column of zeros."""
    layer = nn.Linear(inputs, rows, bias=bias).to(dtype).eval()
    with torch.no_grad():
        weight = noise(rows, inputs).to(dtype)
        layer.weight.copy_(weight.masked_fill(noise(rows, inputs, seed=1) > -0.4, 0))
        layer.weight[2], layer.weight[:, 3] = 0, 0
    return layer


def compressed(layer, kernel="scipy"):
    return CompressedLinear(layer.weight, layer.bias, kernel=kernel, path="head")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(9,), (1, 9), (5, 9), (2, 3, 9), (0, 9)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_gives_what_the_dense_layer_gives(kernel, dtype, shape, bias):
    layer, x = holey(bias=bias, dtype=dtype), noise(*shape).to(dtype)
    with torch.no_grad():
        wanted, got = layer(x), compressed(layer, kernel)(x)
    assert got.dtype == dtype
    assert got.is_contiguous()
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("kernel", KERNELS)
def test_inputs_of_any_strides(kernel):
    layer, x = holey(), noise(9, 7).float().T
    with torch.no_grad():
        torch.testing.assert_close(compressed(layer, kernel)(x), layer(x))


@pytest.mark.parametrize("kernel", KERNELS)
def test_its_state_is_plain_tensors_and_comes_back_from_a_file(kernel, tmp_path):
    layer, x = holey(), noise(4, 9).float()
    made = compressed(layer, kernel)
    state = made.state_dict()
    assert not list(made.parameters())
    assert state["values"].numel() == state["columns"].numel() == int((layer.weight != 0).sum())
    save_file(state, tmp_path / "rows.safetensors")
    again = CompressedLinear.like(load_file(tmp_path / "rows.safetensors"))
    assert str(again) == str(made)
    assert torch.equal(again(x), made(x))


def test_a_state_of_more_values_goes_into_it_and_what_it_remembered_is_gone():
    made, other, x = compressed(holey()), holey(), noise(4, 9).float()
    made(x)
    other.weight.data.fill_(0.5)
    made.load_state_dict(compressed(other).state_dict())
    torch.testing.assert_close(made(x), other(x).detach())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_copy_of_it_and_another_type(kernel):
    layer, x = holey(), noise(4, 9).float()
    made = compressed(layer, kernel)
    first = made(x)
    assert torch.equal(copy.deepcopy(made)(x), first)
    torch.testing.assert_close(copy.deepcopy(made).double()(x.double()), layer.double()(x.double()).detach())


def test_it_says_what_it_is():
    layer = holey()
    made = compressed(layer)
    assert (made.in_features, made.out_features) == (9, 12)
    assert torch.equal(made.weight, layer.weight)
    assert f"kept={int((layer.weight != 0).sum())}" in repr(made)


@pytest.mark.parametrize("kernel", KERNELS)
def test_training_and_gradients_are_refused_by_name(kernel):
    made, x = compressed(holey(), kernel), noise(4, 9).float()
    with pytest.raises(BadModel, match=r"'head'.*a gradient is asked"):
        made(x.requires_grad_())
    with torch.no_grad():
        made(x)
    made.train()
    with pytest.raises(BadModel, match=r"'head'.*training mode"):
        made(x.detach())


def test_another_type_or_device_is_refused_by_name():
    made = compressed(holey())
    for x in (noise(4, 9).half(), torch.zeros(4, 9, device="meta")):
        with pytest.raises(BadModel, match="'head'"):
            made(x)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("columns", lambda t: t + 9),
        ("columns", lambda t: t[:-1]),
        ("starts", lambda t: t[:-1]),
        ("starts", lambda t: t.flip(0)),
        ("kernel", lambda t: t + 7),
    ],
)
def test_rows_that_are_none_are_refused(name, change):
    state = compressed(holey()).state_dict()
    with pytest.raises(CheckpointError, match="no compressed rows"):
        CompressedLinear.like(state | {name: change(state[name])})
