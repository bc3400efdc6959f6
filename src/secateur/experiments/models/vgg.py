"""Plain convolutional networks with batch norm: VGG-16 for CIFAR, and a small one for digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from secateur.experiments.models.registry import model

POOL: Literal["M"] = "M"
VGG16 = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512)


def _features(layout: Sequence[int | str], before: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in layout:
        if isinstance(width, int):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Convolutions and poolings in a row, a 2x2 average, a linear head (Simonyan & Zisserman, arXiv 1409.1556).

    `layout` lists widths and "M" for a max-pool; it must bring the map down to 2x2. `hidden` puts one more linear layer
    of that width, with batch norm, before the head. Input (N, in_channels, H, W), output (N, classes) logits.
    """

    def __init__(self, layout: Sequence[int | str], classes: int, in_channels: int, hidden: int | None = None) -> None:
        super().__init__()
        self.features = _features(layout, in_channels)
        self.pool = nn.AvgPool2d(2)
        width = [width for width in layout if isinstance(width, int)][-1]
        extra: list[nn.Module] = []
        if hidden is not None:
            extra = [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
        self.classifier = nn.Sequential(*extra, nn.Linear(hidden or width, classes))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def _initialise(module: nn.Module) -> None:
    # The initialisation of the "Rethinking the Value of Network Pruning" code (arXiv 1810.05270), whose rows we compare
    # with: batch norm scales start at 0.5, which matters to every method that ranks channels by them.
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.constant_(module.weight, 0.5)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
        nn.init.zeros_(module.bias)


@model("vgg16")
def vgg16(*, classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG-16 for 32x32 images with a single linear head: 313.2 M MACs, 14.72 M parameters."""
    return VGG(VGG16, classes, in_channels)


@model("vgg16-fc512")
def vgg16_fc512(*, classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG-16 with a 512-wide hidden linear layer, the net of the published 14.99 M parameters (arXiv 1608.08710)."""
    return VGG(VGG16, classes, in_channels, hidden=512)


@model("digits-vgg", shape=(1, 8, 8))
def digits_vgg(*, classes: int = 10, in_channels: int = 1) -> VGG:
    """Four convolutions for 8x8 digits: no shortcut anywhere, so every width is free."""
    return VGG((16, 32, POOL, 32, 64, POOL), classes, in_channels)
