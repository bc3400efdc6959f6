"""Reads `.safetensors` weights into a model: all of them, into exactly the shapes they were saved from, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from secateur.errors import CheckpointError, WrongArchitecture


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a `.safetensors` file into `model` in place; a `module.` prefix (left by data parallelism) is stripped.

    Strict: each name and shape must match, except batch norm's step counters, which many files leave out, and tied
    parameters, which a file may hold once. Nothing is loaded unless everything fits.

    Raises CheckpointError for a file that is missing, damaged or of another kind, WrongArchitecture (naming the first
    mismatch) for a sound file that belongs to another model.
    """
    stored = _read(Path(path))
    wanted = model.state_dict(keep_vars=True)  # the parameters themselves: tied ones are one object
    if not any(name.startswith("module.") for name in wanted):
        stored = {name.removeprefix("module."): tensor for name, tensor in stored.items()}
    _refuse_mismatch(stored, wanted, path)
    model.load_state_dict(stored, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path} is not a .safetensors file. Weights in pickles are not read: convert them first."
        )
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or is not a .safetensors file: {error}.") from error


def _refuse_mismatch(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    loaded = {id(tensor) for name, tensor in wanted.items() if name in stored}
    for name, tensor in wanted.items():
        shape = list(tensor.shape)
        if name not in stored:
            if id(tensor) not in loaded and not name.endswith("num_batches_tracked"):
                raise WrongArchitecture(f"{name} has shape {shape} in the model and is not in {path}.")
        elif list(stored[name].shape) != shape:
            raise WrongArchitecture(f"{name} has shape {list(stored[name].shape)} in {path} and {shape} in the model.")
    for name in stored:
        if name not in wanted:
            raise WrongArchitecture(f"{name} has shape {list(stored[name].shape)} in {path} and is not in the model.")
