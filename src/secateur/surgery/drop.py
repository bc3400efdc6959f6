"""Drop: residual blocks replaced by what gives their input back; names of all other modules stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import SurgeryError
from ..graph.record import Residual


class Skip(nn.Module):
    """Gives back its first input, alone or with so many `None` behind it as the block before it gave."""

    def __init__(self, rest: int) -> None:
        super().__init__()
        self.rest = rest

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """`x`, of any shape; what else a block is given is not looked at."""
        return x if self.rest < 0 else (x, *[None] * self.rest)

    def extra_repr(self) -> str:
        """Nothing: how many values follow is no matter to a reader."""
        return ""


def drop(model: nn.Module, residuals: Sequence[Residual]) -> None:
    """Replace blocks, in place: by `nn.Identity` where the block is called with its input alone, else by a `Skip`.

    Layers that number themselves for a cache of keys and values (`layer_idx`) are numbered anew, without a gap.
    """
    for residual in residuals:
        path, _, name = residual.path.rpartition(".")
        parent = model.get_submodule(path)
        held = parent._modules[name]
        plain = residual.alone and residual.rest < 0
        made = nn.Identity() if plain else Skip(residual.rest)
        made.train(held is None or held.training)
        parent._modules[name] = made
    for path in dict.fromkeys(r.path.rpartition(".")[0] for r in residuals):
        _renumber(model.get_submodule(path))


def check(model: nn.Module, residuals: Sequence[Residual]) -> None:
    """Raise `SurgeryError` where blocks of several kinds are told apart by their number, which a drop would change."""
    for path in dict.fromkeys(r.path.rpartition(".")[0] for r in residuals):
        numbered = any("layer_idx" in vars(m) for m in model.get_submodule(path).modules())
        kinds = getattr(getattr(model, "config", None), "layer_types", None)
        if numbered and kinds and len(set(kinds)) > 1:
            raise SurgeryError(
                f"the blocks of {path!r} are of several kinds, told apart by their number in config.layer_types, so "
                "none can be dropped; leave 'depth' out of kinds"
            )


def _renumber(container: nn.Module) -> None:
    """Blocks that are left have the numbers 0, 1, 2, ... where they had numbers."""
    left = [child for child in container.children() if not isinstance(child, (Skip, nn.Identity))]
    for number, child in enumerate(left):
        for module in child.modules():
            if type(vars(module).get("layer_idx")) is int:
                module.layer_idx = number  # type: ignore[assignment]
