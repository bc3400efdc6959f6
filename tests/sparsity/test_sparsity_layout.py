"""A weight as a matrix: the product of that matrix is what the layer gives."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import ALL, fresh
from secateur.errors import BadModel, UnknownName
from secateur.sparsity.layout import find_weights
from secateur.sparsity.pattern import Pattern


def layouts(model, x, include="*", exclude=()):
    return find_weights(secateur.trace(model, x), include, exclude)


class Of(nn.Module):
    def __init__(self, f, *shape):
        super().__init__()
        self.weight, self.f = nn.Parameter(torch.randn(*shape, dtype=torch.float64)), f

    def forward(self, x):
        return self.f(x, self.weight)


def test_linear_either_way_round():
    x = torch.randn(3, 5, dtype=torch.float64)
    for f, shape in ((F.linear, (4, 5)), (torch.matmul, (5, 4))):
        model = Of(f, *shape)
        layout = layouts(model, x).layouts["weight"]
        assert layout.size == (4, 5)
        torch.testing.assert_close(x @ layout.matrix(model.weight).T, model(x))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_channels_first_then_its_kernel(groups):
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    model = Of(lambda x, w: F.conv2d(x, w, groups=groups), 8, 4 // groups, 3, 3)
    layout = layouts(model, x).layouts["weight"]
    columns = F.unfold(x, 3).unflatten(1, (groups, -1))  # (B, groups, I / groups * 9, L)
    matrix = layout.matrix(model.weight).unflatten(0, (groups, -1))
    y = torch.einsum("goi,bgil->bgol", matrix, columns).flatten(1, 2)
    torch.testing.assert_close(y, model(x).flatten(2))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution(groups):
    """Kernel one: a product at each position."""
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    model = Of(lambda x, w: F.conv_transpose2d(x, w, groups=groups), 4, 6 // groups, 1, 1)
    layout = layouts(model, x).layouts["weight"]
    assert layout.size == (6, 4 // groups)
    matrix = layout.matrix(model.weight).unflatten(0, (groups, -1))
    y = torch.einsum("goi,bgil->bgol", matrix, x.flatten(2).unflatten(1, (groups, -1))).flatten(1, 2)
    torch.testing.assert_close(y, model(x).flatten(2))


@pytest.mark.parametrize("name", ["plain", "depthwise", "grouped", "tied", "raw", "transposed", "named", "flat"])
def test_there_and_back(name):
    found = layouts(fresh(name), ALL[name].example)
    parameters = dict(fresh(name).named_parameters())
    for n, layout in found.layouts.items():
        t = torch.arange(parameters[n].numel()).reshape(parameters[n].shape)
        assert layout.matrix(t).shape == layout.size
        assert torch.equal(layout.tensor(layout.matrix(t)), t)
    assert {*found.layouts, *found.left} == set(parameters)
    assert all("bias" not in n and "table" not in n for n in found.layouts)


def test_names_and_globs_of_parameters_and_modules():
    model, x = fresh("plain"), ALL["plain"].example
    everything = ["one.0.weight", "two.0.weight", "head.linear.weight"]
    assert list(layouts(model, x).layouts) == everything
    assert list(layouts(model, x, include="head").layouts) == everything[2:]
    assert list(layouts(model, x, include=["one", "two.0.*"]).layouts) == everything[:2]
    assert list(layouts(model, x, exclude=["*.0"]).layouts) == everything[2:]
    assert layouts(model, x, exclude="head").left["head.linear.weight"] == "exclude='head'"
    with pytest.raises(UnknownName, match=r"no module or parameter 'haed'.*head"):
        layouts(model, x, exclude="haed")
    with pytest.raises(BadModel, match="no weight of the model is left"):
        layouts(model, x, exclude="*")
    with pytest.raises(BadModel, match=r"one\.1\.weight: no linear layer or convolution"):
        layouts(model, x, include="one.1")


def test_a_tied_weight_goes_by_all_its_names():
    model, x = fresh("tied"), ALL["tied"].example
    assert list(layouts(model, x).layouts) == ["a.weight", "b.weight", "d.weight"]
    assert "b.weight" not in layouts(model, x, exclude="c").layouts


def test_a_computed_weight_is_left_with_its_reason():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))
    found = layouts(model, torch.randn(2, 4))
    assert list(found.layouts) == ["1.weight"]
    assert any("is computed from it" in why for why in found.left.values())


def test_a_weight_used_along_two_axes_has_no_rows():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            return x @ self.w @ self.w.T

    model, x = Both(), torch.randn(2, 4)
    assert secateur.sparsify(model, x, sparsity=0.25).counts["w"].zeros == 4
    for options in ({"sparsity": 0.5, "scope": "row"}, {"pattern": Pattern(keep=2, of=4)}):
        with pytest.raises(BadModel, match=r"'w' is no one matrix.*different axes"):
            secateur.sparsify(model, x, **options)


def test_experts_and_recurrent_layers_are_weights_too():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    found = layouts(Recurrent(), torch.randn(2, 3, 6))
    assert found.layouts["lstm.weight_ih_l0"].size == (16, 6)
    assert found.layouts["lstm.weight_hh_l0"].size == (16, 4)
    model = Of(lambda x, w: torch.bmm(x, w), 3, 5, 4)
    x = torch.randn(3, 2, 5, dtype=torch.float64)
    layout = layouts(model, x).layouts["weight"]
    assert layout.size == (12, 5)
    matrices = layout.matrix(model.weight).unflatten(0, (3, 4))
    torch.testing.assert_close(torch.einsum("eni,eoi->eno", x, matrices), model(x))
