"""What weights multiply, against unfolded inputs: every layer, whether a group is cut there or not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, images
from secateur.evidence.base import Sampling
from secateur.evidence.collect import collect

KINDS = {"product_squares", "product_grams"}


class Each(nn.Module):
    """Calls one function with its weight and remembers nothing."""

    def __init__(self, weight, f):
        super().__init__()
        self.weight, self.f = nn.Parameter(weight), f

    def forward(self, x):
        return self.f(x, self.weight)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def collected(model, *xs, kinds=KINDS, **options):
    graph = secateur.trace(model, xs[0])
    batches = [(x, torch.zeros(len(x), dtype=torch.long)) for x in xs]
    return collect(graph, kinds, batches=batches, **options)


CONVOLUTIONS = {
    "plain": (noise(4, 3, 3, 3), {}),
    "strided": (noise(4, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    "dilated": (noise(4, 3, 3, 3), {"dilation": 2, "padding": 2}),
    "same": (noise(4, 3, 4, 3), {"padding": "same"}),
    "valid": (noise(4, 3, 2, 3), {"padding": "valid"}),
    "grouped": (noise(4, 2, 3, 3), {"groups": 2}),
    "depthwise": (noise(8, 1, 3, 3), {"groups": 4}),
}


@pytest.mark.parametrize("name", sorted(CONVOLUTIONS))
def test_a_convolution_by_its_unfolded_inputs(name):
    """The product of the rows and the matrix is what the convolution gives: so rows and their order are right."""
    weight, options = CONVOLUTIONS[name]
    groups = options.get("groups", 1)
    x = noise(5, weight.shape[1] * groups, 7, 6, seed=1)
    found = collected(Each(weight, lambda x, w: F.conv2d(x, w, **options).mean((2, 3))), x[:3], x[3:])
    fields = found.of("product_grams", "weight")
    matrix = weight.reshape(groups, -1, weight[0].numel())
    y = F.conv2d(x, weight, **options)
    energy = y.square().sum((0, 2, 3))
    torch.testing.assert_close(torch.einsum("god,gde,goe->go", matrix, fields["gram"], matrix).flatten(), energy)
    squares = found.of("product_squares", "weight")["square"]
    diagonal = fields["gram"].diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(squares.expand(weight.shape), diagonal.flatten()[fields["columns"]].expand(weight.shape))
    assert int(fields["count"]) == y.numel() // y.shape[1] == int(found.of("product_squares", "weight")["count"])
    assert squares.shape == ((8 if name == "depthwise" else 4) if groups > 1 else 1, *weight.shape[1:])


def test_one_dimension_and_three():
    for f, weight in ((F.conv1d, noise(3, 2, 3)), (F.conv3d, noise(3, 2, 2, 2, 3))):
        x = noise(2, 2, *([5] * (weight.dim() - 2)), seed=1)
        fields = collected(Each(weight, lambda x, w, f=f: f(x, w, padding=1).flatten(2).mean(2)), x).of(
            "product_grams", "weight"
        )
        flat, y = weight.flatten(1), f(x, weight, padding=1)
        torch.testing.assert_close(
            (flat @ fields["gram"][0] @ flat.T).diagonal(), y.movedim(1, 0).flatten(1).square().sum(1)
        )


PRODUCTS = {
    "linear": (F.linear, 1),
    "addmm": (lambda x, w: torch.addmm(torch.zeros(4, dtype=torch.float64), x, w.T), 1),
    "conv1d-of-gpt2": (lambda x, w: torch.addmm(torch.zeros(4, dtype=torch.float64), x, w), 0),
    "matmul": (lambda x, w: x @ w, 0),
    "transposed": (lambda x, w: x @ w.mT, 1),
    "weight-first": (lambda x, w: (w @ x.T).T, 1),
    "transposed-first": (lambda x, w: (w.T @ x.T).T, 0),
}


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_a_product_either_way_round(name):
    f, axis = PRODUCTS[name]
    x = noise(6, 5, seed=1)
    weight = noise(4, 5) if axis == 1 else noise(5, 4)
    found = collected(Each(weight, f), x[:2], x[2:])
    torch.testing.assert_close(found.of("product_grams", "weight")["gram"][0], x.T @ x)
    square = found.of("product_squares", "weight")["square"]
    torch.testing.assert_close(square, x.square().sum(0).unsqueeze(1 - axis))
    assert torch.equal(found.of("product_grams", "weight")["columns"], torch.arange(5).unsqueeze(1 - axis))


def test_a_square_weight_is_known_by_its_strides():
    x = noise(6, 4, seed=1)
    for f, axis in ((F.linear, 1), (torch.matmul, 0)):
        found = collected(Each(noise(4, 4), f), x)
        assert found.of("product_squares", "weight")["square"].shape == ((1, 4) if axis else (4, 1))


def test_first_and_last_layers_and_all_uses_count():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.a(self.a(x).relu()))

    net, x = fill(Twice()).double(), noise(3, 5, 4)
    found = collected(net, x, kinds={*KINDS, "activations", "inputs_gram"}).values
    assert found["product_grams"].keys() == {"a.weight", "b.weight"} == found["product_squares"].keys()
    with torch.no_grad():
        both = torch.cat([x, net.a(x).relu()]).flatten(0, 1)
    torch.testing.assert_close(found["product_grams"]["a.weight"]["gram"][0], both.T @ both)
    assert int(found["product_grams"]["a.weight"]["count"]) == 30


def test_attention_written_by_torch_is_looked_into():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).double()
    found = collected(nn.Sequential(layer, nn.Linear(8, 3)).double(), noise(2, 5, 8)).values["product_grams"]
    assert set(found) == {
        "0.self_attn.in_proj_weight",
        "0.self_attn.out_proj.weight",
        "0.linear1.weight",
        "0.linear2.weight",
        "1.weight",
    }


def test_only_those_asked_for():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double(), noise(3, 4)
    found = collected(net, x, sampling=Sampling(weights=frozenset({"1.weight"}))).values
    assert all(v.keys() == {"1.weight"} for v in found.values())


def test_both_ways_round_is_missing_and_so_are_parts():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.v = nn.Parameter(noise(4, 4)), nn.Parameter(noise(6, 4))

        def forward(self, x):
            return x @ self.w @ self.w.T @ self.v[:3].T

    found = collected(Both(), noise(3, 4), noise(2, 4))
    assert "as it is and transposed" in found.missing["product_grams"]["w"]
    assert found.values["product_grams"] == {}


def test_with_gradients_and_a_cut_group_in_one_pass():
    """Other kinds count the products that run; these must not be among them."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x = images(4, 1, 6, 6)
    kinds = {*KINDS, "inputs_gram", "weight_gradients", "example_gradients"}
    together = collected(net, x, kinds=kinds).values
    for kind in kinds:
        alone = collected(net, x, kinds={kind}).values[kind]
        assert alone.keys() == together[kind].keys()
        for owner, fields in alone.items():
            for name, tensor in fields.items():
                torch.testing.assert_close(tensor, together[kind][owner][name])
