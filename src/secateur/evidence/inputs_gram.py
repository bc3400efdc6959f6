"""Gram matrices of what layers read, in float64: everything that least squares on a layer's inputs can need.

With X the rows that a layer reads (patches, for a convolution, at sampled positions) and W its flat weight, the dense
layer gives Y = X W^T, so X^T Y = (X^T X) W^T: X^T X, the sum of X and the number of rows are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadModel
from ..graph.record import Writer
from ..groups.graph import Graph
from ..groups.group import Group
from .base import Collector, Evidence, Fields, Sampling, collector
from .readers import Read
from .sampling import points, sampled_patches


@collector("inputs_gram")
class InputsGram(Collector):
    """Of each weight that reads a group: `gram` X^T X (inputs * kernel, same), `sum` of rows, `count` of rows.

    Layers that are grouped or transposed have none, nor have weights that are used both ways round. Of a layer that is
    used several times, all uses count.
    """

    reads = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._held: dict[str, tuple[Tensor, Tensor, int]] = {}
        shapes = {n: p.shape for n, p in graph.model.named_parameters()}
        self._kernels = {w.weight: shapes[w.weight][2:] for w in graph.trace.writers if w.weight is not None}
        axes: dict[str, int] = {}
        for writer in graph.trace.writers:
            if writer.weight is not None and (why := _unfit(writer, axes)):
                self.missing[writer.weight] = why

    def read(self, read: Read) -> None:
        """One more."""
        contraction = read.reader.contraction
        weight = contraction.weight
        if weight is None or weight not in self._kernels or weight in self.missing:
            return
        seed = self.sampling.seed * 1_000_003 + read.batch
        if contraction.geometry is None:
            x = read.by_example(read.x)
            taken = points(x.shape[1:2], len(x), self.sampling.points, seed)[0].to(x.device)
            rows = x.gather(1, taken[:, :, None].expand(-1, -1, x.shape[2])).flatten(0, 1).double()
        else:
            kernel, count = self._kernels[weight], self.sampling.points
            rows = sampled_patches(read.x, kernel, contraction.geometry, count, seed).double()
        gram, total, count = rows.T @ rows, rows.sum(0), len(rows)
        if weight in self._held:
            before = self._held[weight]
            before[0].add_(gram)
            self._held[weight] = (before[0], before[1] + total, before[2] + count)
        else:
            self._held[weight] = (gram, total, count)

    def values(self) -> dict[str, Fields]:
        """By weight."""
        return {n: {"gram": g.cpu(), "sum": s.cpu(), "count": torch.tensor(c)} for n, (g, s, c) in self._held.items()}


def _unfit(writer: Writer, axes: dict[str, int]) -> str:
    """Why one Gram matrix does not tell what the layer gives, if so; `axes`: those along which weights write so far."""
    if writer.computed:
        return "its layer computes with it before it uses it"
    if writer.viewed:
        return "its layer uses a part of it, or sees it in another shape"
    if writer.groups > 1 or writer.transposed:
        return "its layer is transposed" if writer.transposed else "its layer is grouped"
    if axes.setdefault(str(writer.weight), writer.weight_axis) != writer.weight_axis:
        return "it is used both as it is and transposed"
    return ""


@dataclass(frozen=True, eq=False)
class Inputs:
    """A layer that reads a group: its weight (outputs, d) and what it read, in float64, d = inputs * kernel."""

    name: str
    weight: Tensor
    gram: Tensor  # (d, d)
    sum: Tensor  # (d,)
    count: int
    columns: Tensor  # (units, m * kernel): which of the d belong to each unit


def inputs_of(group: Group, evidence: Evidence) -> list[Inputs]:
    """Every layer that reads the group, with its Gram matrix. Raises `BadModel` where one has none."""
    found = []
    for member in group.members:
        if not member.reads:
            continue
        try:
            fields = evidence.of("inputs_gram", member.tensor)
        except BadModel as error:
            why = evidence.missing.get("inputs_gram", {}).get(member.tensor, "no layer that can be watched uses it")
            raise BadModel(
                f"group {group.name!r} is read by {member.tensor!r}, of which there is no inputs_gram: {why}; use a "
                f"criterion that needs none, or frozen={group.name!r}"
            ) from error
        weight = evidence.weight(member.tensor).to("cpu", torch.float64).movedim(member.axis, 1)
        kernel = weight[0, 0].numel()
        at = torch.from_numpy(member.index)[:, :, None] * kernel + torch.arange(kernel)
        flat = weight.flatten(1)
        if flat.shape[1] != fields["gram"].shape[0]:
            raise BadModel(
                f"group {group.name!r} is read by {member.tensor!r}, a stack of weights, with no one "
                f"Gram matrix of inputs; use a criterion that needs none, or frozen={group.name!r}"
            )
        found.append(Inputs(member.tensor, flat, fields["gram"], fields["sum"], int(fields["count"]), at.flatten(1)))
    if not found:
        raise BadModel(f"no layer with inputs to sample reads group {group.name!r}; use another criterion")
    return found
