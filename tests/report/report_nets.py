"""Small networks for the drawing: a residual one, and attention beside tied embeddings."""

import torch
import torch.nn.functional as F
from torch import nn

import secateur


class Block(nn.Module):
    """Its norm is defined last and called first."""

    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Tied(nn.Module):
    """A tied head, blocks in a list, a parameter of its own."""

    def __init__(self, depth=2, width=8):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.table = nn.Embedding(11, width)
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.table.weight
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x):
        x = self.table(x) * self.scale
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def conv(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))


class Residual(nn.Module):
    """Stem, one block, a head; two groups."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = conv(3, 6), conv(6, 12), conv(12, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.second(self.first(x).relu())
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Each layer reads what all before it wrote: more groups live at once than there is room for lines."""

    def __init__(self, depth=12):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 1) for i in range(depth))
        self.head = nn.Conv2d(3 + 4 * depth, 2, 1)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(x)


def residual(**kwargs):
    return secateur.trace(Residual(), torch.randn(1, 3, 8, 8), **kwargs)


def tied(depth=2, **kwargs):
    return secateur.trace(Tied(depth), torch.zeros(1, 4, dtype=torch.int64), **kwargs)


def dense(**kwargs):
    return secateur.trace(Dense(), torch.randn(1, 3, 4, 4), **kwargs)
