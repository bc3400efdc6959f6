import pytest
import torch
from torch import nn

from secateur.errors import WrongArchitecture
from secateur.methods.hook import Hook
from secateur.training import Recipe, state


class Counting(Hook):
    def __init__(self):
        self.seen = torch.zeros(2)

    def state_dict(self):
        return {"seen.by.me": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen.by.me"].clone()


def stepped(net, optimizer="adamw"):
    net.register_buffer("mask", torch.arange(3.0), persistent=False)
    weights = [p for p in net.parameters() if p.requires_grad]
    built = Recipe(epochs=1, optimizer=optimizer).build(weights)
    for p in weights:
        p.grad = torch.ones_like(p)
    built.step()
    return built


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_restore_gives_back_what_capture_took(new_net, optimizer):
    net = new_net(0)
    net[0].bias.requires_grad_(False)  # the optimizer numbers only what it trains
    built, hooks = stepped(net, optimizer), [Hook(), Counting()]
    hooks[1].seen += 5
    net[0].weight.data += 1
    net.mask *= 2
    taken = {name: tensor.clone() for name, tensor in state.capture(net, built, hooks).items()}

    other = new_net(1)
    other[0].bias.requires_grad_(False)
    fresh, hooks = stepped(other, optimizer), [Hook(), Counting()]
    weight = other[0].weight
    state.restore(taken, other, fresh, hooks)
    again = state.capture(other, fresh, hooks)
    assert other[0].weight is weight
    assert taken.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in taken.items())
    assert {"model.mask", "model.1.running_mean", "hook.1.seen.by.me"} <= taken.keys()
    assert any(name.startswith("optimizer.") for name in taken)


def test_a_tied_weight_is_captured_once():
    first, last = nn.Linear(3, 3), nn.Linear(3, 3)
    last.weight = first.weight
    net = nn.Sequential(first, last)
    taken = state.capture(net, Recipe(epochs=1).build(list(net.parameters())), [])
    assert sorted(taken) == ["model.0.bias", "model.0.weight", "model.1.bias"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda net: net.register_buffer("extra", torch.zeros(1)), "extra is absent in it and torch.float32"),
        (
            lambda net: setattr(net, "6", nn.Linear(8, 4)),
            r"6.weight is torch.float32 \(3, 8\) in it and .* \(4, 8\) here",
        ),
        (lambda net: net.double(), "0.weight is torch.float32 .* torch.float64"),
        (lambda net: delattr(net, "6"), "6.weight is .* in it and absent here"),
    ],
)
def test_another_model_is_refused_by_name_and_left_alone(new_net, change, words):
    net = new_net(0)
    taken = state.capture(net, Recipe(epochs=1).build(list(net.parameters())), [])
    other = new_net(1)
    change(other)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WrongArchitecture, match=words):
        state.restore(taken, other, Recipe(epochs=1).build(list(other.parameters())), [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
