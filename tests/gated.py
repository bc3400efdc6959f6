"""A small residual net that takes gates as arguments, and derivatives by them: the reference that knows no groups."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from nets import fill, images
from secateur.groups.graph import Graph

SIZES = {"stem": 5, "one": 4}  # of the groups: the stream, which stem and two write, and the inner one
USES = {"stem": 2, "one": 1}  # tensors that layers read


class Net(nn.Module):
    """Stem, one residual block, head. Gates stand where layers read; none is a gate of ones."""

    def __init__(self, norm: bool = True, act: nn.Module | None = None) -> None:
        super().__init__()
        bn = nn.BatchNorm2d if norm else lambda n: nn.Identity()
        self.stem, self.n0 = nn.Conv2d(1, 5, 3, padding=1, bias=not norm), bn(5)
        self.one, self.n1 = nn.Conv2d(5, 4, 3, padding=1, bias=not norm), bn(4)
        self.two, self.n2 = nn.Conv2d(4, 5, 3, padding=1, bias=not norm), bn(5)
        self.head, self.act = nn.Linear(5, 3), act or nn.ReLU()

    def forward(self, x: Tensor, stem: Tensor | None = None, one: Tensor | None = None):
        x = self.act(self.n0(self.stem(x)))
        y = self.act(self.n1(self.one(gate(x, stem))))
        return self.head(gate(self.act(x + self.n2(self.two(gate(y, one)))), stem).mean((2, 3)))


def gate(x: Tensor, z: Tensor | None) -> Tensor:
    return x if z is None else x * z[:, None, None]


def filled(**options) -> Net:
    return fill(Net(**options)).double().eval()


def data(count: int = 3, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    x, y = images(count * size, 1, 5, 5).double(), torch.arange(count * size) % 3
    return [(x[i : i + size], y[i : i + size]) for i in range(0, count * size, size)]


def traced(net: nn.Module) -> Graph:
    return secateur.trace(net, data()[0][0])


def ones() -> dict[str, Tensor]:
    return {name: torch.ones(size, dtype=torch.float64, requires_grad=True) for name, size in SIZES.items()}


def loss_at(net: Net, x: Tensor, y: Tensor, z: dict[str, Tensor]) -> Tensor:
    """The loss with one gate for each group: both layers that read the stream share theirs."""
    return F.cross_entropy(net(x, z["stem"], z["one"]), y)


def gate_gradients(net: Net, batches) -> dict[str, Tensor]:
    """Group -> (batches, units), by autograd through real gates."""
    found = []
    for x, y in batches:
        z = ones()
        found.append(torch.autograd.grad(loss_at(net, x, y, z), list(z.values())))
    return {name: torch.stack(each) for name, each in zip(SIZES, zip(*found, strict=True), strict=True)}


def weight_gradients(net: nn.Module, x: Tensor, y: Tensor, loss=F.cross_entropy) -> dict[str, Tensor]:
    """Parameter -> gradient, on a copy."""
    net = copy.deepcopy(net)
    loss(net(x), y).backward()
    return {name: p.grad for name, p in net.named_parameters()}


def assert_close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b.detach(), rtol=rtol, atol=1e-15)
