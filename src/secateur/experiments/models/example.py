"""An example input for a model spec, so that tracing needs no question answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from secateur.errors import BadExample
from secateur.experiments.models.libraries import hf_config, hf_main_input, timm_cfg, torchvision_builder
from secateur.experiments.models.registry import entry

TOKENS = 16
IMAGE = (3, 224, 224)
VIDEO = (3, 16, 224, 224)


def example_for(spec: str) -> Tensor | dict[str, Tensor]:
    """One random input (batch 1) for the model that `resolve(spec)` builds; the same one at each call.

    Ours: the registered (1, C, H, W). torchvision: (1, 3, 224, 224), or 16 such frames for video. timm: the model's own
    `input_size`. transformers: a dict, of 16 tokens where the configuration has a vocabulary, else of an image.

    Raises BadExample where no default makes sense, and what `resolve` raises for an unknown name.
    """
    library, colon, name = spec.partition(":")
    if not colon:
        return _noise(*entry(spec).shape)
    if library not in _LIBRARIES:
        raise BadExample(f"{spec!r} is your own callable, so its input is not known: give an example yourself.")
    return _LIBRARIES[library](name)


def _noise(*shape: int) -> Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def _tokens(vocabulary: int) -> Tensor:
    return torch.randint(vocabulary, (1, TOKENS), generator=torch.Generator().manual_seed(0))


def _torchvision(name: str) -> Tensor:
    task = torchvision_builder(name).__module__
    if ".detection" in task or ".optical_flow" in task:
        raise BadExample(f"torchvision:{name} does not take one batch of images: give an example yourself.")
    return _noise(*(VIDEO if ".video" in task else IMAGE))


def _timm(name: str) -> Tensor:
    known = timm_cfg(name)
    return _noise(*(known.input_size if known is not None else IMAGE))


def _hf(where: str) -> dict[str, Tensor]:
    config = hf_config(where)
    fed = hf_main_input(config)
    vocabulary: int | None = getattr(config, "vocab_size", None)
    if fed == "input_ids" and vocabulary is not None:
        names = [fed, "decoder_input_ids"] if config.is_encoder_decoder else [fed]
        return {name: _tokens(vocabulary) for name in names}
    channels: int | None = getattr(config, "num_channels", None)
    if fed == "pixel_values" and channels is not None:
        size: Any = getattr(config, "image_size", None) or IMAGE[1:]
        height, width = (size, size) if isinstance(size, int) else size
        return {fed: _noise(channels, height, width)}
    raise BadExample(f"no example can be made up for {where!r} (its main input is {fed!r}): give one yourself.")


_LIBRARIES: dict[str, Callable[[str], Tensor | dict[str, Tensor]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _hf,
}
