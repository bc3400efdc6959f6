"""One spec string, one model: ours by name, another library's, a local transformers folder, or your own callable."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

from secateur.errors import BadModel, UnknownName
from secateur.experiments.models.libraries import hf_model, timm_model, torchvision_model
from secateur.experiments.models.registry import build
from secateur.experiments.models.weights import load_weights

LIBRARIES: dict[str, Callable[[str, int | None], nn.Module]] = {
    "torchvision": torchvision_model,
    "timm": timm_model,
    "hf": hf_model,
}


def resolve(spec: str, *, classes: int | None = None, weights: str | os.PathLike[str] | None = None) -> nn.Module:
    """The model that `spec` names, on the CPU, in training mode unless its library says otherwise.

    `spec` is one of: `resnet56` (any of `models()`), `torchvision:resnet50`, `timm:convnext_tiny`,
    `hf:FOLDER_OR_CONFIG_JSON`, `package.module:callable`. `classes` sets the number of outputs; None keeps the default.
    `weights`
    is a `.safetensors` file to load (see `load_weights`). A callable of yours that takes neither `classes` nor
    `num_classes` keeps its own outputs. The network is never asked.

    Raises UnknownName (naming the nearest), BadModel (a library that is missing, a callable that gives no module),
    CheckpointError or WrongArchitecture.
    """
    library, colon, name = spec.partition(":")
    if not colon:
        found = build(spec, classes=classes)
    elif library in LIBRARIES:
        found = LIBRARIES[library](name, classes)
    else:
        found = _call(library, name, classes)
    if weights is not None:
        load_weights(found, weights)
    return found


def _call(module: str, name: str, classes: int | None) -> nn.Module:
    factory = _find(module, name)
    spec = f"{module}:{name}"
    if not callable(factory):
        raise BadModel(f"{spec} is {type(factory).__name__}, not a callable that builds a model.")
    found = factory(**_arguments(spec, factory, classes))
    if not isinstance(found, nn.Module):
        raise BadModel(f"{spec} returned {type(found).__name__}, not a torch.nn.Module.")
    return found


def _find(module: str, name: str) -> Any:
    if not _exists(module):
        schemes = ", ".join(f"{library}:NAME" for library in LIBRARIES)
        raise BadModel(f"there is no Python module {module!r} to import {name!r} from. Other specs: {schemes}.")
    loaded = import_module(module)  # an error inside the user's own module is theirs to see, whole
    if not hasattr(loaded, name):
        raise UnknownName(f"callable in {module}", name, (key for key in vars(loaded) if not key.startswith("_")))
    return getattr(loaded, name)


def _exists(module: str) -> bool:
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    try:
        return module in sys.modules or find_spec(module) is not None
    except ModuleNotFoundError as error:  # a parent package is missing, unless it is something the parent needs
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        return False


def _arguments(spec: str, factory: Callable[..., Any], classes: int | None) -> dict[str, int]:
    try:
        signature = inspect.signature(factory)
        names = [name for name in ("classes", "num_classes") if name in signature.parameters]
        arguments = {} if classes is None else dict.fromkeys(names[:1], classes)
        signature.bind(**arguments)
    except (TypeError, ValueError) as error:
        raise BadModel(
            f"{spec} cannot be called without further arguments ({error}): wrap it in a function."
        ) from error
    return arguments
