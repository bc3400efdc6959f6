"""Which groups scale: what reads a unit sees c times as much when what writes it is multiplied by c > 0 (behind ReLU).

Tried out: each unit's rows are multiplied by a large or a small power of two, its columns divided by it, and the model
must give what it gave. A unit that no input reaches passes as well; to merge it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..graph.example import call, results
from ..graph.trace import undisturbed
from ..groups.folded import folding
from ..groups.graph import Graph
from ..groups.group import Group
from .merge import with_tensors
from .precise import InFloat64, wider
from .verify import TOLERANCE, other_example

POWER = 8


@torch.no_grad()
def homogeneous(graph: Graph, groups: Sequence[Group]) -> set[str]:
    """Names of those of these groups that scale. The model runs once for each, and is untouched."""
    whole = _outputs(graph, graph.model) if groups else []
    return {g.name for g in groups if _same(whole, _outputs(graph, with_tensors(graph.model, _scaled(graph, g))))}


def _scaled(graph: Graph, group: Group) -> dict[str, Tensor]:
    held = {**dict(graph.model.named_parameters()), **dict(graph.model.named_buffers())}
    written = _shifted(graph.model, group)
    factors = 2.0 ** (POWER - 2 * POWER * (torch.arange(group.size, dtype=torch.float64) % 2))
    found: dict[str, Tensor] = {}
    for m in group.members:
        if m.reads or m.tensor in written:
            tensor = found.get(m.tensor, held[m.tensor].detach().double())
            shape = [1] * tensor.dim()
            shape[m.axis] = -1
            by = torch.ones(tensor.shape[m.axis], dtype=torch.float64)
            by[torch.from_numpy(m.index)] = (1 / factors if m.reads else factors)[:, None]
            found[m.tensor] = tensor * by.reshape(shape).to(tensor.device)
    return found


def _shifted(model: nn.Module, group: Group) -> set[str | None]:
    """Multiplying these multiplies what a unit is before the activation: a * (W x + b - mu) + beta, all but a."""
    names: set[str | None] = set()
    for writer in (s.writer for s in group.sources):
        names |= {writer.weight, writer.bias}
        if writer.norm is not None and folding(model, writer.norm) is not None:
            names |= {writer.norm.mean, writer.norm.bias}
    return names


def _outputs(graph: Graph, model: nn.Module) -> list[Tensor]:
    with undisturbed(model), InFloat64(model):
        return wider(results(call(model, other_example(graph.example))))


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(bool((x - y).abs().max() <= TOLERANCE * x.abs().max()) for x, y in zip(a, b, strict=True) if x.numel())
