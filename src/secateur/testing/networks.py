"""The networks and the digits that contracts are checked on."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Given = tuple[nn.Module, Tensor]  # a network of the caller's own: the model and an example input


class Network(NamedTuple):
    """A network to check on, in float64, so that sums in another order still agree."""

    name: str
    model: nn.Module
    example: Tensor
    batches: list[tuple[Tensor, Tensor]]


class Residual(nn.Module):
    """A stem and one block whose shortcut pads channels, by amounts that are int attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = 2, 4
        self.stem, self.first, self.second = _conv(1, 6), _conv(6, 12), _conv(12, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 10)."""
        x = self.stem(x).relu()
        x = self.second(self.first(x).relu()) + F.pad(x, (0, 0, 0, 0, self.before, self.after))
        logits: Tensor = self.head(x.relu().mean((2, 3)))
        return logits


class Block(nn.Module):
    """A branch that is added to what comes in."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(_conv(size, size), nn.ReLU(), _conv(size, size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, size, H, W), and the same out."""
        y: Tensor = x + self.branch(x)
        return y


def deep() -> Given:
    """A model of residual blocks, and its example."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
        return nn.Sequential(_conv(1, 6), Block(6), Block(6), Block(6), *tail), torch.zeros(2, 1, 8, 8)


def _conv(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))


def built_in() -> dict[str, Given]:
    """Name to model and example: convolutions, a padded shortcut, linear layers."""
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = nn.Sequential(_conv(1, 8), nn.ReLU(), _conv(8, 12), nn.ReLU(), *tail, nn.Linear(12, 10))
        flat = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10))
        square = torch.zeros(2, 1, 8, 8)
        return {"plain": (plain, square), "residual": (Residual(), square), "linear": (flat, torch.zeros(2, 64))}


def network(name: str, model: nn.Module, example: Tensor) -> Network:
    """A copy in float64 whose batch norms differ channel by channel, as those of a trained network do; and digits."""
    from sklearn.datasets import load_digits

    model, bunch = copy.deepcopy(model).double().train(), load_digits()
    x = _shaped(torch.from_numpy(bunch.images[:48]).double() / 16, example)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
        classes = model(x).shape[1]
    y = torch.from_numpy(bunch.target[:48]).long() % classes
    return Network(name, model, x[:2], [(x[i : i + 16], y[i : i + 16]) for i in range(0, 48, 16)])


def _shaped(digits: Tensor, example: Tensor) -> Tensor:
    """(n, 8, 8) digits in the shape of the example: resized, and the same in each channel."""
    if example.dim() == 4:
        return F.interpolate(digits[:, None], size=example.shape[2:]).expand(-1, example.shape[1], -1, -1).contiguous()
    return F.interpolate(digits.reshape(-1, 1, 64), size=example[0].numel()).reshape(-1, *example.shape[1:])
