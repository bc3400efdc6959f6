"""Float64 execution of models whose weights are not, and which it must not touch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, difference, random_plan, run
from nets import ALL, fill, fresh, images
from secateur.graph.example import call, tensors
from secateur.graph.trace import undisturbed
from secateur.surgery.precise import InFloat64, wider
from secateur.surgery.verify import double


class Calls(nn.Module):
    """A linear layer, then a function of the model and of what it gave, with a weight for it."""

    def __init__(self, f, *shape):
        super().__init__()
        self.linear, self.f = nn.Linear(6, 6), f
        self.weight = nn.Parameter(torch.zeros(shape or (6,)))
        self.register_buffer("buffer", torch.zeros(6))
        self.register_buffer("numbers", torch.zeros(6, dtype=torch.long))

    def forward(self, x):
        return self.f(self, torch.relu(self.linear(x)))


class Rnn(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.r, self.o = kind(6, 5, num_layers=2, bidirectional=True), nn.Linear(10, 2)

    def forward(self, x):
        return self.o(self.r(x)[0])


CONVS = {
    f"conv{n}d{t}": nn.Sequential((nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1](2, 3, 2), nn.ReLU())
    if not t
    else (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[n - 1](2, 3, 2)
    for n in (1, 2, 3)
    for t in ("", " transposed")
}
MODELS = {
    "linear": (nn.Linear(6, 4), images(2, 6)),
    "no bias": (nn.Linear(6, 4, bias=False), images(2, 5, 6)),
    **{name: (conv, images(2, 2, *[4] * int(name[4]))) for name, conv in CONVS.items()},
    "lstm": (Rnn(nn.LSTM), images(4, 2, 6)),
    "gru": (Rnn(nn.GRU), images(4, 2, 6)),
    "attention": (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), images(2, 4, 6)),
    "bilinear": (Calls(lambda m, x: F.bilinear(x, x, m.weight), 3, 6, 6), images(2, 6)),
    "embedding": (nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 2)), torch.tensor([[1, 8, 3]])),
    "in place": (Calls(lambda m, x: x.mul_(m.weight).add_(m.buffer).clamp_(max=9)), images(2, 6)),
    "in place, into a view": (Calls(lambda m, x: (x[:, :3].mul_(m.weight[:3]), x)[1]), images(2, 6)),
    "into zeros like it": (Calls(lambda m, x: torch.zeros_like(x).add_(x * m.weight)), images(2, 6)),
    "index_add": (Calls(lambda m, x: x.index_add(1, m.numbers[:1], x[:, :1] * m.weight[0])), images(2, 6)),
    "batch norm": (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), images(2, 6)),
    "batch norm of this batch": (nn.BatchNorm1d(6, track_running_stats=False), images(4, 6)),
    "layer norm": (nn.LayerNorm(6), images(2, 6)),
    "group norm": (nn.GroupNorm(2, 6), images(2, 6)),
    "instance norm": (nn.InstanceNorm1d(6, affine=True), images(2, 6, 5)),
    "RMS norm": (nn.RMSNorm(6), images(2, 6)),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), images(2, 6)),
    "prelu": (nn.Sequential(nn.Linear(6, 6), nn.PReLU(6)), images(2, 6)),
    "prelu of one": (nn.Sequential(nn.Linear(6, 6), nn.PReLU()), images(2, 6)),
    "matmul": (Calls(lambda m, x: x @ m.weight), images(2, 6)),
    "einsum": (Calls(lambda m, x: torch.einsum("bi,oi->bo", x, m.weight), 4, 6), images(2, 6)),
    "tensordot": (Calls(lambda m, x: torch.tensordot(x, m.weight, dims=([1], [0])), 6, 4), images(2, 6)),
    "inner": (Calls(lambda m, x: torch.inner(x, m.weight), 4, 6), images(2, 6)),
    "chain": (Calls(lambda m, x: torch.linalg.multi_dot([x, m.weight, m.weight]), 6, 6), images(2, 6)),
    "distance": (Calls(lambda m, x: torch.cdist(x, m.weight), 4, 6), images(2, 6)),
    "cosine": (Calls(lambda m, x: F.cosine_similarity(x, m.weight)), images(2, 6)),
    "lerp": (Calls(lambda m, x: torch.lerp(x, m.buffer + 0 * x, m.weight)), images(2, 6)),
    "where": (Calls(lambda m, x: torch.where(x > 0.5, x, m.weight)), images(2, 6)),
    "cat": (Calls(lambda m, x: torch.cat([x, m.weight[None]])), images(2, 6)),
    "back to its own type": (Calls(lambda m, x: (x.double() * m.weight).to(m.weight.dtype)), images(2, 6)),
    "type of another": (Calls(lambda m, x: (x * 2).type_as(m.weight) * m.weight), images(2, 6)),
    "grid": (
        Calls(lambda m, x: F.grid_sample(x[:, None, None], m.weight.reshape(1, 1, 3, 2).expand(2, -1, -1, -1))),
        images(2, 6),
    ),
    "affine grid": (Calls(lambda m, x: x.mean() * F.affine_grid(m.weight.view(1, 2, 3), [1, 1, 2, 2])), images(2, 6)),
    "kron": (Calls(lambda m, x: torch.kron(x, m.weight)), images(2, 6)),
    "complex": (Calls(lambda m, x: torch.view_as_real(torch.complex(x, x) * m.weight)), images(2, 6)),
    "spectrum": (Calls(lambda m, x: torch.fft.rfft(x).abs() * m.weight[:4]), images(2, 6)),
}


def exact(model, x):
    with torch.no_grad(), undisturbed(model), InFloat64(model):
        return tensors(call(model, double(x)))


@pytest.mark.parametrize("case", MODELS)
def test_it_computes_what_a_copy_in_float64_does(case):
    model, x = MODELS[case]
    fill(model)
    wanted = run(model, x)
    with assert_unchanged(model):
        found = exact(model, x)
    assert all(t.dtype in (torch.float64, torch.complex128) for t in found if t.is_floating_point())
    assert difference(wanted, found) < 1e-12


@pytest.mark.parametrize("name", ["padded", "depthwise", "flat", "named", "digits-resnet"])
def test_whole_models_come_out_in_float64_and_unchanged(name):
    model = fresh(name)
    with assert_unchanged(model):
        found = exact(model, ALL[name].example)
    assert difference(run(model, ALL[name].example), found) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_a_half_type(dtype):
    model = fill(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))).to(
        dtype
    )
    x = images(2, 1, 8, 8).to(dtype)
    with assert_unchanged(model):
        found = exact(model, x)
    assert found[0].dtype == torch.float64
    assert difference(run(model, x), found) < 1e-12


def test_mixed_types():
    """Half of the weights in half precision, and a cast between, as mixed precision models have."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 5).bfloat16(), nn.Linear(5, 3)

        def forward(self, x):
            return self.b(self.a(x.bfloat16()).float())

    model = fill(Mixed())
    with assert_unchanged(model):
        found = exact(model, images(2, 6))
    reference = copy.deepcopy(model)
    reference.forward = lambda x: reference.b(reference.a(x))
    assert difference([reference.double()(images(2, 6).double())], found) < 1e-12


def test_no_weight_is_kept_in_float64():
    model = fill(nn.Linear(6, 4))
    with InFloat64(model):
        model(images(2, 6).double())
        assert model.weight.dtype == torch.float32


def test_recurrent_modules_get_their_own_weights_back_after_an_error():
    model = nn.LSTM(6, 4)
    held = model._flat_weights
    with assert_unchanged(model), pytest.raises(RuntimeError), InFloat64(model):
        model(torch.zeros(2, 3, 5, dtype=torch.float64))
    assert model._flat_weights is held


def test_buffers_that_a_forward_writes_keep_their_type():
    model = Calls(lambda m, x: (m.buffer.add_(x.mean(0)), x)[1])
    with torch.no_grad(), InFloat64(model):
        model(images(2, 6).double())
    assert model.buffer.dtype == torch.float32


def test_wider():
    tree = {"a": torch.zeros(2), "b": (torch.zeros(1, dtype=torch.long), [torch.complex64, torch.int32, None])}
    made = wider(tree)
    assert made["a"].dtype == torch.float64
    assert made["b"][0].dtype == torch.long
    assert made["b"][1] == [torch.complex128, torch.int32, None]


@pytest.mark.parametrize("case", ["prelu", "tensordot", "in place", "lerp"])
def test_a_model_that_computes_so_can_be_cut(case):
    class Wide(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.out = inner, nn.Linear(8, 3)
            self.hidden = nn.Linear(4 if inner is MODELS["tensordot"][0] else 6, 8)

        def forward(self, x):
            x = self.inner(x)
            return self.out(torch.relu(self.hidden(x)))

    model, x = MODELS[case]
    graph = secateur.trace(fill(Wide(model)), x)
    assert secateur.cut(graph, random_plan(graph, keep=0.5)).check.max_error < 1e-9
