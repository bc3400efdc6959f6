"""Hessian-vector products against whole Hessians and finite differences."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import SIZES, assert_close, data, filled, gate_gradients, loss_at, ones, traced, weight_gradients
from nets import fill, images
from secateur.errors import BadModel
from secateur.evidence.collect import collect


@pytest.fixture(scope="module", params=["norm", "no norm", "smooth"])
def net(request):
    return filled(norm=request.param != "no norm", act=nn.Tanh() if request.param == "smooth" else None)


def curvature(model, batches, **options):
    return collect(traced(model), {"curvature"}, batches=batches, **options)


def gate_hessian(net, x, y):
    """(all gates, all gates), of one gate for each unit of each group."""
    sizes = list(SIZES.values())

    def f(flat):
        return loss_at(net, x, y, dict(zip(SIZES, flat.split(sizes), strict=True)))

    return torch.autograd.functional.hessian(f, torch.ones(sum(sizes), dtype=torch.float64))


def test_the_product_is_the_hessian_of_real_gates_times_ones(net):
    """Gates of all groups at once; layers that write one group share theirs."""
    found = curvature(net, data())
    total = sum(gate_hessian(net, x, y).sum(1) for x, y in data())
    for name, expected in zip(SIZES, total.split(list(SIZES.values())), strict=True):
        assert_close(found.of("curvature", name)["product"], expected)


def test_squares_are_of_each_batch(net):
    found = curvature(net, data())
    g = gate_gradients(net, data())
    h = torch.stack([gate_hessian(net, x, y).sum(1) for x, y in data()])
    for name, product in zip(SIZES, h.split(list(SIZES.values()), 1), strict=True):
        fields = found.of("curvature", name)
        assert_close(fields["square"], (g[name] - product / 2).square().sum(0))
        assert int(fields["count"]) == 3


@pytest.mark.parametrize("name", SIZES)
def test_the_product_is_a_finite_difference_of_gate_gradients(name):
    """With a smooth activation, so that no step crosses a kink."""
    net, step = filled(act=nn.Tanh()), 1e-5

    def gradient(scale):
        z = {n: (scale * t.detach()).requires_grad_() for n, t in ones().items()}
        x, y = data()[0]
        return torch.autograd.grad(loss_at(net, x, y, z), z[name])[0]

    expected = (gradient(1 + step) - gradient(1 - step)) / (2 * step)
    torch.testing.assert_close(
        curvature(net, data()[:1]).of("curvature", name)["product"], expected, rtol=1e-6, atol=1e-9
    )


def test_the_flow_is_a_finite_difference_of_weight_gradients():
    net, step = filled(act=nn.Tanh()), 1e-5
    (x, y), names = data()[0], [n for n, p in net.named_parameters() if p.dim() > 1]
    gradient = weight_gradients(net, x, y)

    def moved(by):
        other = copy.deepcopy(net)
        for n in names:
            other.get_parameter(n).data.add_(gradient[n], alpha=by)
        return weight_gradients(other, x, y)

    up, down = moved(step), moved(-step)
    found = curvature(net, data()[:1])
    for n in names:
        torch.testing.assert_close(
            found.of("curvature", n)["flow"], (up[n] - down[n]) / (2 * step), rtol=1e-5, atol=1e-8
        )


def test_the_flow_of_a_quadratic_loss_is_the_matrix_twice():
    """L = theta' A theta / 2: g = A theta and H g = A A theta; and batches add up."""
    model = fill(nn.Sequential(nn.Linear(3, 2, bias=False))).double()
    root = images(6, 6).double()
    a = root @ root.T

    def loss(output, _):
        theta = output.T.reshape(-1)  # of an input of unit vectors, the weight
        return theta @ a @ theta / 2

    graph = secateur.trace(model, torch.eye(3, dtype=torch.float64))
    batches = [(torch.eye(3, dtype=torch.float64), None)] * 2
    found = collect(graph, {"curvature"}, batches=batches, loss=loss).of("curvature", "0.weight")
    theta = model[0].weight.detach().reshape(-1)
    torch.testing.assert_close(found["flow"].reshape(-1), 2 * a @ a @ theta, rtol=1e-12, atol=0)
    assert int(found["count"]) == 2


def test_a_loss_that_is_linear_has_no_curvature():
    """Its gradients hang on no parameter, so that nothing is left to differentiate."""
    model = fill(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))).double()
    graph = secateur.trace(model, images(2, 4).double())
    model[0].requires_grad_(False)
    batches = [(images(2, 4).double(), None)]
    found = collect(graph, {"curvature"}, batches=batches, loss=lambda y, _: y.sum()).of("curvature", "0")
    gradients = collect(graph, {"gradients"}, batches=batches, loss=lambda y, _: y.sum()).of("gradients", "0")
    torch.testing.assert_close(found["product"], torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(found["square"], gradients["square"])
    single = fill(nn.Sequential(nn.Linear(4, 3))).double()
    graph = secateur.trace(single, images(2, 4).double())
    found = collect(graph, {"curvature"}, batches=batches, loss=lambda y, _: y.sum()).of("curvature", "0.weight")
    assert (found["flow"] == 0).all()


def test_a_weight_that_the_loss_does_not_see_has_no_curvature():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x):
            x = self.hidden(x).tanh()
            return self.one(x), self.two(x)

    graph = secateur.trace(fill(Heads()), images(2, 4))
    batches = [(images(2, 4), None)]
    found = collect(graph, {"curvature"}, batches=batches, loss=lambda y, _: y[0].square().sum())
    assert (found.of("curvature", "two.weight")["flow"] == 0).all()
    assert (found.of("curvature", "one.weight")["flow"] != 0).any()


class Once(torch.autograd.Function):
    """A square whose author forbade a second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def test_a_loss_that_cannot_be_differentiated_twice_is_refused_by_group():
    graph = traced(filled())

    def loss(output, _):
        return Once.apply(output).square().sum()

    assert torch.isfinite(secateur.score(graph, "taylor", batches=data(), loss=loss)["one"]).all()
    for criterion in ("taylor-so", "grasp"):
        with pytest.raises(BadModel, match=r"(?s)'(stem|one)[^']*'.*differentiated twice.*use a criterion"):
            secateur.score(graph, criterion, batches=data(), loss=loss)


class Attention(nn.Module):
    """Fused attention, which has no second derivative of its own."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).mean(1)


def test_fused_attention_is_written_out():
    model = fill(Attention()).double().eval()
    x, y = images(3, 5, 8).double(), torch.arange(3)
    found = collect(secateur.trace(model, x), {"curvature"}, batches=[(x, y)])
    names = ["qkv.weight", "out.weight"]

    def f(*weights):
        return F.cross_entropy(torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (x,)), y)

    from torch.nn.attention import SDPBackend, sdpa_kernel

    weights = tuple(model.get_parameter(n).detach().requires_grad_() for n in names)
    with sdpa_kernel(SDPBackend.MATH):
        g = torch.autograd.grad(f(*weights), weights)
        _, flow = torch.autograd.functional.hvp(f, weights, g)
    for name, expected in zip(names, flow, strict=True):
        assert_close(found.of("curvature", name)["flow"], expected)


def test_nothing_of_the_pass_is_held(net):
    """Plain tensors alone: no graph of a batch outlives it, in this kind or in those collected beside it."""
    found = collect(traced(net), {"curvature", "example_gradients", "gradients", "weight_gradients"}, batches=data())
    for kind in found.values.values():
        for fields in kind.values():
            assert all(not t.requires_grad and t.grad_fn is None for t in fields.values())


class Half(nn.Module):
    """Of what one layer writes, three indices are outputs, which cannot go, and five are units."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(4, 8), nn.Linear(5, 3)

    def forward(self, x, z=None):
        x = self.hidden(x)
        return x[:, :3] + self.head(torch.tanh(x[:, 3:]) if z is None else torch.tanh(x[:, 3:]) * z)


def test_only_gates_move():
    """What is written beside a group stands still."""
    model, (x, y) = fill(Half()).double(), (images(4, 4).double(), torch.arange(4) % 3)
    graph = secateur.trace(model, x)
    found = collect(graph, {"curvature"}, batches=[(x, y)])
    ones = torch.ones(5, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda z: F.cross_entropy(model(x, z), y), ones)
    assert_close(found.of("curvature", graph.groups[0].name)["product"], hessian.sum(1))
