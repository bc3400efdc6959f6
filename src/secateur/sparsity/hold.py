"""Hooks for training under masks: weights that are zero stay zero, and weights are remembered to be rewound to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import BadModel, TrainingError
from ..files import checksum
from ..hook import Hook


def zero(weight: Tensor, mask: Tensor) -> None:
    """Exact zeros, in place, where the mask is False."""
    with torch.inference_mode(weight.is_inference()), torch.no_grad():
        weight.masked_fill_(~mask, 0)


@dataclass(frozen=True, eq=False)
class Hold(Hook):
    """Keeps masked weights at zero, through momentum and weight decay: their gradients are zero, and so is what an
    optimizer makes of them. Give it last, after hooks that move weights. Raises `BadModel` for another model.
    """

    masks: Mapping[str, Tensor]  # parameter -> bool, True = kept
    digest: str = field(init=False)  # so that a run that is taken up again is refused other masks
    _moved: dict[tuple[str, torch.device], Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        held = {name: mask.cpu().contiguous() for name, mask in self.masks.items()}
        object.__setattr__(self, "digest", checksum(held, ""))

    def on_start(self, model: nn.Module) -> None:
        """Zero now."""
        self.after_step(model, 0.0)

    def after_backward(self, model: nn.Module, lr: float) -> None:
        """No gradient where there is no weight."""
        for parameter, mask in self._each(model):
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~mask, 0)

    def after_step(self, model: nn.Module, lr: float) -> None:
        """Zero again."""
        for parameter, mask in self._each(model):
            zero(parameter, mask)

    def _each(self, model: nn.Module) -> Iterator[tuple[nn.Parameter, Tensor]]:
        parameters = dict(model.named_parameters())
        for name, mask in self.masks.items():
            parameter = parameters.get(name)
            if parameter is None or parameter.shape != mask.shape:
                found = "absent" if parameter is None else f"{tuple(parameter.shape)}"
                raise BadModel(
                    f"the masks are of another model: {name} is {tuple(mask.shape)} in them, and {found} in this one"
                )
            at = (name, parameter.device)
            if at not in self._moved:
                self._moved[at] = mask.to(parameter.device)
            yield parameter, self._moved[at]


class Snapshot(Hook):
    """Remembers parameters and buffers as they were after `step` steps of training; 0: before the first."""

    def __init__(self, step: int = 0) -> None:
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise TrainingError(f"step={step!r}: give the number of steps after which to remember, from 0")
        self.step = step
        self._done = 0
        self._taken: dict[str, Tensor] = {}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is remembered. Raises `TrainingError` where training has not come so far."""
        if not self._taken:
            raise TrainingError(
                f"training stopped after {self._done} steps, before step {self.step} whose weights were to be "
                "remembered; rewind to an earlier step, and pass the hook to the training loop"
            )
        return self._taken

    def on_start(self, model: nn.Module) -> None:
        """Step 0."""
        if self.step == 0:
            self._taken = remembered(model)

    def after_step(self, model: nn.Module, lr: float) -> None:
        """One more."""
        self._done += 1
        if self._done == self.step:
            self._taken = remembered(model)

    def state_dict(self) -> dict[str, Tensor]:
        """What is remembered, and how many steps have been."""
        return {"done": torch.tensor(self._done), **{f"taken.{n}": t for n, t in self._taken.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """As it was."""
        self._done = int(state["done"])
        self._taken = {n.removeprefix("taken."): t for n, t in state.items() if n.startswith("taken.")}


def remembered(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, by name."""
    held = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in held}


def rewind(model: nn.Module, tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> None:
    """Put back, in place, what was remembered, and zero what the masks say: weights that are kept are bit-equal.

    Raises `BadModel` for what was remembered of another model.
    """
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in held.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            raise BadModel(f"what was remembered is of another model: it has no {name} of shape {tuple(tensor.shape)}")
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(tensors[name])
    for name, mask in (masks or {}).items():
        zero(held[name], mask.to(held[name].device))
