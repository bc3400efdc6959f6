"""Residual networks for small images, with parameter-free (option A) shortcuts, which pruning finds hard."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.experiments.models.registry import model


class PadShortcut(nn.Module):
    """Option A of He et al. 2015: every `stride`-th pixel, and zero channels `before` and `after` the given ones.

    (N, C, H, W) -> (N, before + C + after, ceil(H / stride), ceil(W / stride)). The three integers are read at each
    call, so that whoever narrows the network can rewrite them.
    """

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        """Subsample, then pad the channels with zeros."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """The three integers, for `print(model)`."""
        return f"stride={self.stride}, before={self.before}, after={self.after}"


def _conv3x3(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut: (N, before, H, W) -> (N, after, H/stride, W/stride)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3x3(before, after, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _conv3x3(after, after), nn.BatchNorm2d(after)
        added = after - before
        changes = stride != 1 or added != 0
        self.shortcut = PadShortcut(stride, added // 2, added - added // 2) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


def _stage(blocks: int, before: int, after: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(after, after, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(before, after, stride), *rest)


class ResNet(nn.Module):
    """The CIFAR ResNet of He et al. 2015 (arXiv 1512.03385, section 4.2): three stages of `blocks` blocks, any widths.

    Stages two and three halve the map. Input (N, in_channels, H, W), output (N, classes) logits. Parameter names are
    those of the common pretrained CIFAR weights (`layer1.0.conv1.weight`, `linear.bias`). Convolutions start from
    N(0, sqrt(2 / (k^2 C_out))), as in "Rethinking the Value of Network Pruning" (arXiv 1810.05270).
    """

    def __init__(self, blocks: int, widths: tuple[int, int, int], classes: int, in_channels: int) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1, self.bn1 = _conv3x3(in_channels, first), nn.BatchNorm2d(first)
        self.layer1 = _stage(blocks, first, first, 1)
        self.layer2 = _stage(blocks, first, second, 2)
        self.layer3 = _stage(blocks, second, third, 2)
        self.linear = nn.Linear(third, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def cifar_resnet(depth: int, *, classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet of `depth` = 6n + 2 layers on 32x32 images: three stages of n blocks, 16, 32 and 64 channels wide."""
    assert depth % 6 == 2, depth
    return ResNet((depth - 2) // 6, (16, 32, 64), classes, in_channels)


for _depth in (20, 32, 44, 56, 110):
    model(f"resnet{_depth}")(partial(cifar_resnet, _depth))


@model("digits-resnet", shape=(1, 8, 8))
def digits_resnet(*, classes: int = 10, in_channels: int = 1) -> ResNet:
    """Three residual blocks for 8x8 digits: seconds to train on one core, and still two padded shortcuts to prune."""
    return ResNet(1, (16, 32, 64), classes, in_channels)
