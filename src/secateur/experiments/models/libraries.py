"""Models of other libraries, built without any network: torchvision, timm, and transformers from a local folder."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from secateur.errors import BadModel, CheckpointError, UnknownName

EXTRAS = {"torchvision": "vision", "timm": "vision", "transformers": "language"}


def optional(library: str) -> ModuleType:
    """The library, imported now. Raises BadModel, which says what to install, if it is absent or does not load."""
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        raise BadModel(
            f"{library} cannot be imported ({error}). Try: pip install 'secateur[{EXTRAS[library]}]'."
        ) from error
    except (ImportError, OSError, RuntimeError) as error:  # torchvision beside another torch: a RuntimeError
        raise BadModel(f"{library} cannot be imported: {_unloadable(library, error)}") from error


def _unloadable(library: str, error: Exception) -> str:
    """What is wrong with a library that is there, and what to try, in one line."""
    why = next(iter(str(error).splitlines()), type(error).__name__)
    if "torchvision" not in (library, *why.replace(":", " ").split()):
        return f"it is installed but does not load ({why}). Try: pip install --force-reinstall {library}."
    versions = " beside ".join(f"{name} {_installed(name)}" for name in ("torchvision", "torch"))
    return (
        f"the compiled operations of torchvision do not load, as those of a build for another torch ({versions}: "
        f"{why}). Try: pip install --force-reinstall torch torchvision, both from the --index-url of torch."
    )


def _installed(library: str) -> str:
    """Its version, or "of unknown version"."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "of unknown version"


def torchvision_builder(name: str) -> Any:
    """The function that builds a torchvision model. Raises UnknownName."""
    listing = optional("torchvision").models
    known = listing.list_models()
    if name not in known:
        raise UnknownName("torchvision model", name, known)
    return listing.get_model_builder(name)


def torchvision_model(name: str, classes: int | None) -> nn.Module:
    """A torchvision model with random weights; `classes` None keeps the library's number of outputs."""
    builder = torchvision_builder(name)
    options: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None  # its default is to download
    if classes is not None:
        options["num_classes"] = classes
    built: nn.Module = builder(**options)
    return built


def timm_cfg(name: str) -> Any:
    """timm's own default configuration of a model (`input_size`, ...), or None. Raises UnknownName."""
    timm = optional("timm")
    if not timm.is_model(name):
        raise UnknownName("timm model", name, timm.list_models())
    return timm.models.get_pretrained_cfg(name)


def timm_model(name: str, classes: int | None) -> nn.Module:
    """A timm model with random weights; `classes` None keeps the library's number of outputs."""
    timm_cfg(name)
    options = {} if classes is None else {"num_classes": classes}
    built: nn.Module = optional("timm").create_model(name, pretrained=False, **options)
    return built


def hf_config(where: str) -> Any:
    """The transformers configuration in a folder or a `config.json`. Raises CheckpointError; never asks the network."""
    path = Path(where)
    if not path.exists():
        raise CheckpointError(f"there is no folder or file {where!r}; only local ones are read, never a model hub.")
    try:
        return optional("transformers").AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{where!r} holds no configuration that transformers knows: {error}") from error


def hf_main_input(config: Any) -> str:
    """What the model of this configuration is fed first: "input_ids", "pixel_values", "input_features", ..."""
    name: str = optional("transformers").MODEL_MAPPING[type(config)].main_input_name
    return name


def hf_model(where: str, classes: int | None) -> nn.Module:
    """A transformers model: the class that the configuration declares, or AutoModel where it declares none.

    A folder with `.safetensors` weights gives them to the model; a configuration alone gives random weights. `classes`
    sets `num_labels`. Raises CheckpointError, among others for weights that are stored as a pickle only.
    """
    transformers, config, path = optional("transformers"), hf_config(where), Path(where)
    if classes is not None:
        config.num_labels = classes
    declared = (config.architectures or ["AutoModel"])[0]
    family = getattr(transformers, declared, transformers.AutoModel)
    if path.is_dir() and any(path.glob("*.safetensors")):
        built: nn.Module = family.from_pretrained(path, config=config, local_files_only=True, use_safetensors=True)
        return built
    if path.is_dir() and any(path.glob("*.bin")):
        raise CheckpointError(f"{where!r} holds weights as a pickle (.bin) only: convert them to .safetensors.")
    return from_config(family, config)


def from_config(family: Any, config: Any) -> nn.Module:
    """Random weights. The Auto classes build by `from_config`; a named class is called, as its own docs say."""
    built: nn.Module = family.from_config(config) if hasattr(family, "from_config") else family(config)
    return built
