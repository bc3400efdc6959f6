"""Networks that tests prune: small ones written by hand, ours, and torchvision's, with weights that hide nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.experiments.models import build
from secateur.experiments.models.registry import entry
from secateur.experiments.models.vgg import POOL, VGG
from secateur.groups.graph import Graph, trace


def fill(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights of a healthy scale, and batch norms that differ channel by channel in all four tensors.

    Biases lean to the positive side: where a ReLU is dead for every input, a wrong index would change nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                tensor.zero_()
            elif name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.dim() == 1:
                lean = 0.6 if name.endswith("bias") else 0.0
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + lean)
            else:
                fan = tensor[0].numel()
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan) ** 0.5)
    return model


def conv_bn(before: int, after: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    options = {"padding": kernel // 2, "bias": False} | options
    return nn.Sequential(nn.Conv2d(before, after, kernel, **options), nn.BatchNorm2d(after), nn.ReLU())


class Head(nn.Module):
    """Mean over the map, then a linear layer."""

    def __init__(self, width: int, classes: int = 10) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 8), conv_bn(8, 6), Head(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)))


class NoNorm(nn.Module):
    """Convolutions with a bias and no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3), Head(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.two(F.relu(self.one(x)))))


class Padded(nn.Module):
    """A residual stream that widens by zero channels, whose numbers are int attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv_bn(1, 6), conv_bn(6, 10), conv_bn(10, 10)
        self.before, self.after = 1, 3
        self.head = Head(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(self.b(self.a(x)) + F.pad(x, (0, 0, 0, 0, self.before, self.after))))


class Concat(nn.Module):
    """Two branches joined, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join, self.head = conv_bn(1, 5), conv_bn(1, 7, 1), conv_bn(17, 6, 1), Head(6)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(x)
        return self.head(self.join(torch.cat([left, right, left], 1)))


class Depthwise(nn.Module):
    """Depthwise convolutions, one that gives each channel twice, and pointwise ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.point = conv_bn(1, 6), conv_bn(6, 6, groups=6), conv_bn(6, 8, 1)
        self.twice, self.last, self.head = conv_bn(8, 16, groups=8, bias=True), conv_bn(16, 5, 1), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.twice(self.point(self.deep(self.stem(x))))))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped, self.last = conv_bn(1, 12), conv_bn(12, 8, groups=4), conv_bn(8, 6, 1)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.grouped(self.stem(x))))


class Mlp(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7, bias=False), nn.Tanh(), nn.Linear(7, 4))


class MlpNorm(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4))


class Flat(nn.Module):
    """Each channel becomes sixteen inputs of the linear layer; the size is computed from x.size()."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv_bn(1, 6), nn.Conv2d(6, 5, 3, stride=2, padding=1)
        self.hidden, self.out = nn.Linear(80, 11), nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.two(self.one(x)))
        batch, channels, height, width = x.size()
        return self.out(F.relu(self.hidden(x.view(batch, channels * height * width))))


class Twice(nn.Module):
    """One module run twice, so that what it writes it also reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.head = nn.Conv2d(1, 7, 3), conv_bn(7, 7), Head(7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.again(F.relu(self.stem(x)))))


class Tied(nn.Module):
    """Two layers with one weight between them, which therefore reads what it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 6)
        self.c.weight = self.b.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.d(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))))


class Sliced(nn.Module):
    """Part of the channels is taken by number, which no cut could follow."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three, self.head = conv_bn(1, 8), conv_bn(3, 6), conv_bn(6, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.three(self.two(self.one(x)[:, 2:5])))


class Transposed(nn.Module):
    """A transposed convolution widens, so that its weight has the writer's channels second."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.up, self.norm = (
            conv_bn(1, 4),
            nn.ConvTranspose2d(4, 9, 3, stride=2, bias=False),
            nn.BatchNorm2d(9),
        )
        self.two, self.head = nn.ConvTranspose2d(9, 5, 2), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.two(F.relu(self.norm(self.up(self.one(x)))))))


class Squeeze(nn.Module):
    """Squeeze and excite: a small net sees the mean of each channel and scales the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.up = conv_bn(1, 8), nn.Linear(8, 3), nn.Linear(3, 8)
        self.last, self.head = conv_bn(8, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scale = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return self.head(self.last(x * scale[:, :, None, None]))


class Raw(nn.Module):
    """Matrices that are no layer's: what they write stands second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.zeros(12, 9)), nn.Parameter(torch.zeros(9, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x @ self.first) @ self.second


class Named(nn.Module):
    """Two inputs by keyword, outputs in a dict, tokens and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.image = nn.Embedding(11, 6), nn.Linear(12, 6)
        self.hidden, self.out, self.other = nn.Linear(6, 10), nn.Linear(10, 3), nn.Linear(10, 2)

    def forward(self, *, tokens: Tensor, x: Tensor) -> dict[str, Any]:
        hidden = F.gelu(self.hidden(self.table(tokens) + self.image(x)[:, None]))
        return {"out": self.out(hidden.mean(1)), "others": (self.other(hidden), None)}


def images(*shape: int) -> Tensor:
    """Fixed noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def small_vgg() -> nn.Module:
    """A third of VGG-16's convolutions, an eighth of its width."""
    return VGG((8, POOL, 16, POOL, 32, 32, POOL, 64, POOL), 10, 3, hidden=16)


def _torchvision(name: str, **options: Any) -> nn.Module:
    import torchvision

    with torch.device("meta"):  # their own initialisation takes longer than all that is tested
        model = getattr(torchvision.models, name)(weights=None, num_classes=10, **options)
        if name.startswith("vgg"):  # 25,088 x 4,096 is too much for a test; flattening 7x7 maps is what matters
            model.classifier = nn.Sequential(nn.Linear(25088, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 10))
    return model.to_empty(device="cpu")


class Net(NamedTuple):
    """How to build a network, and what to call it with."""

    build: Callable[[], nn.Module]
    example: Any


_SQUARE, _FLAT = images(2, 1, 8, 8), images(2, 12)
HAND = {
    cls.__name__.lower(): Net(cls, _SQUARE)
    for cls in (Plain, NoNorm, Padded, Concat, Depthwise, Grouped, Flat, Twice, Sliced, Transposed, Squeeze)
} | {cls.__name__.lower(): Net(cls, _FLAT) for cls in (Mlp, MlpNorm, Tied, Raw)}
HAND["named"] = Net(Named, {"tokens": torch.tensor([[1, 4, 0, 9], [3, 3, 10, 2]]), "x": _FLAT})
OURS = {n: Net(lambda n=n: build(n), images(2, *entry(n).shape)) for n in ("digits-resnet", "digits-vgg", "resnet20")}
OURS["small-vgg"] = Net(small_vgg, images(2, 3, 32, 32))
LIBRARY = {
    name: Net(lambda name=name, options=options: _torchvision(name, **options), images(1, 3, size, size))
    for name, size, options in (
        ("resnet18", 32, {}),
        ("mobilenet_v2", 32, {}),
        ("densenet121", 32, {}),
        ("vgg11_bn", 32, {}),
        ("googlenet", 32, {"aux_logits": False, "init_weights": False}),
    )
}
ALL = HAND | OURS | LIBRARY


def fresh(name: str, seed: int = 0) -> nn.Module:
    """A new network with filled weights, in training mode."""
    return fill(ALL[name].build(), seed).train()


@cache
def graph(name: str) -> Graph:
    """The network, traced once for all tests: what they do must leave it as it is."""
    return trace(fresh(name), ALL[name].example)
