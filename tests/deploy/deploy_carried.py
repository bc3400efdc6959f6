"""A small network, optimizers of every kind that have trained it, and what of them must agree after a cut."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

import secateur
from held import zeroed
from nets import conv_bn, fill, images
from secateur.allocation.base import Allocator
from secateur.allocation.uniform import Uniform

X = images(6, 3, 6, 6).double()
HALF = Uniform(keep=0.5)


class Net(nn.Module):
    """Convolutions with batch norms, a hidden layer, a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv_bn(3, 8), conv_bn(8, 6)
        self.up, self.mid, self.again, self.head = (
            nn.Linear(6, 10),
            nn.Linear(10, 10),
            nn.Linear(10, 10),
            nn.Linear(10, 3),
        )
        self.again.weight = self.mid.weight

    def forward(self, x):
        x = self.up(self.two(self.one(x)).mean((2, 3))).relu()
        return self.head(self.again(self.mid(x).relu()).relu())


def net():
    return fill(Net()).double().train()


def plain(kind, **options):
    return lambda model: kind(model.parameters(), **options)


def grouped(kind, **options):
    """Other rates and decays for biases and the head; the first convolution frozen."""

    def make(model):
        model.one[0].weight.requires_grad_(False)
        flat = [p for p in model.parameters() if p.dim() == 1]
        head = [model.head.weight]
        rest = [p for p in model.parameters() if p.dim() > 1 and p is not model.head.weight]
        groups = [{"params": flat, "weight_decay": 0.0}, {"params": head, "lr": 3e-2}, {"params": rest}]
        return kind(groups, **options)

    return make


O = torch.optim  # noqa: E741
KINDS = {
    "SGD": plain(O.SGD, lr=0.05),
    "momentum": plain(O.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": plain(O.Adam, lr=0.01, amsgrad=True),
    "AdamW": grouped(O.AdamW, lr=0.01, weight_decay=0.1),
    "fused": grouped(O.AdamW, lr=0.01, weight_decay=0.1, fused=True),
    "grouped momentum": grouped(O.SGD, lr=0.05, momentum=0.9, dampening=0.2, weight_decay=0.01),
    "rate as a tensor": plain(O.Adam, lr=torch.tensor(0.01, dtype=torch.float64), foreach=False),
    "RMSprop": plain(O.RMSprop, lr=0.01, momentum=0.9, centered=True),
    "Adagrad": plain(O.Adagrad, lr=0.05, initial_accumulator_value=0.1),
    "Adadelta": plain(O.Adadelta, lr=0.5),
    "Adamax": plain(O.Adamax, lr=0.01),
    "NAdam": plain(O.NAdam, lr=0.01),
    "RAdam": plain(O.RAdam, lr=0.01),
    "ASGD": plain(O.ASGD, lr=0.01, t0=1),
    "Rprop": plain(O.Rprop, lr=0.01),
}


def step(model, optimizer, times=1, seed=0):
    """Plain training, on data that the seed decides."""
    for i in range(times):
        x = X + 0.1 * torch.randn(X.shape, dtype=X.dtype, generator=torch.Generator().manual_seed(seed + i))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def trained(make):
    model = net()
    optimizer = make(model)
    step(model, optimizer, 3)
    return model, optimizer


@dataclass(frozen=True)
class Given(Allocator):
    """The plan of another."""

    plan: secateur.Plan

    def allocate(self, graph, scores, cost, budget):
        return self.plan


def silence(model, example=X):
    """A plan, and the model with what reads removed units set to zero: then all gradients at kept indices agree."""
    graph = secateur.trace(model, example)
    plan = secateur.allocate(graph, secateur.score(graph), allocator=HALF)
    state = zeroed(graph, plan).state_dict()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(state[name])
    return graph, plan


def at(tensor, edits, name):
    """What is kept of a tensor of the whole model."""
    for axis, index in edits.indices.get(name, {}).items():
        tensor = tensor.index_select(axis, torch.from_numpy(index))
    return tensor


def same_at_kept(whole, pruned):
    named = dict(whole.named_parameters())
    gaps = {n: (at(named[n], pruned.edits, n) - p).abs().max().item() for n, p in pruned.model.named_parameters()}
    assert max(gaps.values()) < 1e-12, gaps


def facts(optimizer):
    """All that an optimizer holds, by value, and which parameters."""
    held = [[id(p) for p in g["params"]] for g in optimizer.param_groups]
    state = copy.deepcopy(optimizer.state_dict())
    return held, state, [[p.detach().clone() for p in g["params"]] for g in optimizer.param_groups]


def same_facts(a, b):
    torch.testing.assert_close(a[1:], b[1:], rtol=0, atol=0)
    assert a[0] == b[0]
