"""The models that experiments run on: ours by name, other libraries' by a spec, weights from `.safetensors`."""

from secateur.experiments.models import resnet, vgg  # noqa: F401  (importing a family registers its models)
from secateur.experiments.models.example import example_for
from secateur.experiments.models.registry import build, model, models
from secateur.experiments.models.resolve import resolve
from secateur.experiments.models.weights import load_weights

__all__ = ["build", "example_for", "load_weights", "model", "models", "resolve"]
