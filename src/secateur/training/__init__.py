"""Floor 8: train a model with methods as hooks, reproducibly, and resumably after a kill at any moment."""

from secateur.training.evaluate import evaluate_accuracy
from secateur.training.history import History
from secateur.training.loader import Loader
from secateur.training.loop import fit
from secateur.training.recipe import Recipe
from secateur.training.seeds import seeded

__all__ = ["History", "Loader", "Recipe", "evaluate_accuracy", "fit", "seeded"]
