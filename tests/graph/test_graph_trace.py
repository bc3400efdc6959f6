"""One forward, read: what is seen through, what is refused, what is put back."""

import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, difference, random_plan, run, zeroed
from nets import fill, images
from secateur.errors import TraceError
from secateur.graph.trace import read, undisturbed


class Shaped(nn.Module):
    """A convolution, something in between, a linear layer of 216 inputs."""

    def __init__(self, between, width=6):
        super().__init__()
        self.conv, self.linear, self.between, self.width = nn.Conv2d(1, width, 3), nn.Linear(216, 4), between, width
        self.slope = nn.Parameter(torch.rand(width))

    def forward(self, x):
        return self.linear(self.between(self, F.relu(self.conv(x))))


FLATTEN = lambda net, x: x.flatten(1)  # noqa: E731


def test_a_forward_that_looks_at_values_is_refused():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(4, 4)

        def forward(self, x):
            y = self.gate(x)
            return y if y.sum() > 0 else -y

    model = Branch()
    with assert_unchanged(model), pytest.raises(TraceError, match="values in a tensor"):
        read(model, torch.zeros(2, 4))


def test_a_model_without_a_tensor_to_show_is_refused():
    class Silent(nn.Linear):
        def forward(self, x):
            super().forward(x)

    with pytest.raises(TraceError, match="no tensor but a NoneType"):
        read(Silent(2, 2), torch.zeros(1, 2))


def test_errors_of_the_forward_come_through():
    class Broken(nn.Linear):
        def forward(self, x):
            raise KeyError("mine")

    model = Broken(2, 2)
    with assert_unchanged(model), pytest.raises(KeyError, match="mine"):
        read(model, torch.zeros(1, 2))


def test_undisturbed_puts_every_mode_back():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    net[1][1].eval()
    with undisturbed(net):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == [True, True, True, True, False]


def test_no_weights_are_read_and_none_are_made():
    """A model on the meta device has a shape and nothing else; 6 GB of weights are traced in no memory."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(20_000, 40_000), nn.ReLU(), nn.Linear(40_000, 20_000))
    g = secateur.trace(model, torch.empty(1, 20_000, device="meta"))
    assert [(x.name, x.size) for x in g.groups] == [("0", 40_000)]


def test_unused_parameters_are_listed():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    assert read(Spare(), torch.zeros(1, 3)).unused == ("spare.weight", "spare.bias")


def test_a_frozen_backbone_is_read_all_the_same():
    model = fill(Shaped(FLATTEN)).requires_grad_(False)
    assert len(secateur.trace(model, images(2, 1, 8, 8)).groups) == 1


class Wrapped(nn.Module):
    """Its first convolution is wrapped or replaced."""

    def __init__(self, first, width):
        super().__init__()
        self.first, self.second, self.head = first, nn.Conv2d(width, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


def test_a_layer_that_cannot_be_cut_freezes_itself_alone():
    first = nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3))
    assert [x.name for x in secateur.trace(Wrapped(first, 4), images(2, 1, 9, 9)).groups] == ["second"]


WRAPPED = {
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), 4, {"first": 4, "second": 6}),
    "grouped transposed": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 8, 3, groups=2)),
        8,
        {"first.0": 2, "first.1": 4, "second": 6},
    ),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_wrapped_layers_are_cut(case):
    make, width, units = WRAPPED[case]
    g = secateur.trace(fill(Wrapped(make(), width)), images(2, 1, 9, 9))
    assert {x.name.removesuffix(".parametrizations.weight"): x.size for x in g.groups} == units
    for seed in range(3):
        plan = random_plan(g, seed)
        pruned = secateur.cut(g, plan)
        assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9


def test_an_error_that_a_forward_catches_leaves_the_path_as_it_was():
    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.a, self.b = nn.Linear(9, 9), nn.Linear(5, 6), nn.Linear(6, 2)

        def forward(self, x):
            try:
                x = self.bad(x)
            except RuntimeError:
                x = self.a(x)
            return self.b(x.cummax(1)[0])

    g = secateur.trace(Tries(), torch.zeros(2, 5))
    assert [(f.name, f.path) for f in g.frozen if "cummax" in f.reason] == [("a", "")]


def test_nothing_is_warned_of_when_a_model_takes_no_other_size():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3), nn.Linear(64, 2)

        def forward(self, x):
            return self.head(F.relu(self.two(F.relu(self.one(x)))).flatten(1))

    g = secateur.trace(fill(Fixed()), images(2, 1, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert secateur.cut(g, random_plan(g, keep=0.5)).check.max_error <= 1e-6


def test_a_norm_called_as_a_function_is_no_module():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 2)

        def forward(self, x):
            n = self.norm
            x = F.batch_norm(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias)
            return self.head(F.relu(x).mean((2, 3)))

    g = secateur.trace(fill(Functional()), images(2, 1, 8, 8))
    assert [x.size for x in g.groups] == [5]
    plan = random_plan(g, keep=0.5)
    assert difference(run(zeroed(g, plan), g.example), run(secateur.cut(g, plan).model, g.example)) < 1e-9


def test_gradients_need_not_be_on():
    with torch.no_grad():
        assert secateur.trace(Shaped(FLATTEN), images(2, 1, 8, 8)).groups


def test_inference_mode_changes_nothing():
    model = Shaped(FLATTEN)
    with torch.inference_mode():
        assert secateur.trace(model, images(2, 1, 8, 8)).groups


def test_tensors_inside_an_output_object_are_outputs():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            hidden = self.one(x)
            return SimpleNamespace(logits=self.two(hidden), inner=SimpleNamespace(hidden=hidden))

    g = secateur.trace(Holder(), torch.zeros(1, 4))
    assert g.groups == ()
    assert {f.reason for f in g.frozen} == {"reaches the model's output"}
