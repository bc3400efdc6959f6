"""The models whose speed is predicted and measured; random weights, for times hardly depend on them."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from subjects import torchvision  # the engine's own

SIZE = 224


def model(name, batch=1):
    """(model in eval mode, example)."""
    torch.manual_seed(0)
    if name == "vit_small":
        torchvision()
        import timm

        found = timm.create_model("vit_small_patch16_224", num_classes=1000)
    else:
        found = getattr(torchvision().models, name)(weights=None)
    return found.eval(), torch.randn(batch, 3, SIZE, SIZE)
