"""Gram matrices of what layers read, in float64: everything that least squares on a layer's inputs can need.

With X the rows that a layer reads (patches, for a convolution, at sampled positions) and W its flat weight, the dense
layer gives Y = X W^T, so X^T Y = (X^T X) W^T: X^T X, the sum of X and the number of rows are enough. A layer that
shall give something else, as what it gave before others were cut, needs X^T Y, the sum of Y and |Y|^2 as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadModel, NeedsData
from ..graph.record import Writer
from ..groups.graph import Graph
from ..groups.group import Group
from .base import Collector, Evidence, Fields, Sampling, collector
from .readers import Read
from .sampling import points, sampled_patches


@dataclass(frozen=True)
class Towards(Sampling):
    """Sampling in a network whose layers shall give, without their bias, what those of another gave at the same points.

    Without targets, what each layer gives is kept for that: a field `given` (rows, outputs), in the order of rows.
    """

    targets: Mapping[str, Tensor] | None = None  # weight -> (rows, outputs)


@collector("inputs_gram")
class InputsGram(Collector):
    """Of each weight that reads a group: `gram` X^T X (inputs * kernel, same), `sum` of rows, `count` of rows.

    `free`: whether an intercept has a place. With targets Y also `cross` X^T Y, `target_sum`, `target_square` |Y|^2.
    Layers that are grouped or transposed have none, nor have weights that are multiplied with both ways round. Of a
    layer that is used several times, all uses count.
    """

    reads = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._held: dict[str, Fields] = {}
        self._given: dict[str, list[Tensor]] = {}
        self._parameters = dict(graph.model.named_parameters())  # the pass itself puts others in their place
        self._writers = {w.weight: w for w in graph.trace.writers if w.weight is not None and w.kind != "embedding"}
        self._kernels = {name: self._parameters[name].shape[2:] for name in self._writers}
        self._free = dict.fromkeys(self._writers, True)
        axes: dict[str, int] = {}
        for writer in graph.trace.writers:
            if writer.weight in self._writers and writer.kind != "embedding":  # looking a row up multiplies nothing
                self._free[writer.weight] &= has_intercept(writer)
                if why := _unfit(writer, axes):
                    self.missing[writer.weight] = why

    def read(self, read: Read) -> None:
        """One more."""
        weight = read.reader.contraction.weight
        if weight is None or weight not in self._kernels or weight in self.missing:
            return
        rows = self._rows(read, self._kernels[weight])
        found = {"gram": rows.T @ rows, "sum": rows.sum(0), "count": torch.tensor(len(rows))}
        if isinstance(self.sampling, Towards):
            if self.sampling.targets is None:
                parameter = self._parameters[weight].detach().double()
                flat = parameter.movedim(self._writers[weight].weight_axis, 0).flatten(1)
                self._given.setdefault(weight, []).append((rows @ flat.T).cpu())
            else:
                found |= self._aimed(weight, rows, self.sampling.targets[weight])
        held = self._held.setdefault(weight, {})
        for name, value in found.items():
            held[name] = held[name].add_(value) if name in held else value

    def _rows(self, read: Read, kernel: Sequence[int]) -> Tensor:
        """(rows, inputs * kernel) that a layer reads at the sampled points."""
        geometry, count = read.reader.contraction.geometry, self.sampling.points
        seed = self.sampling.seed * 1_000_003 + read.batch
        if geometry is not None:
            return sampled_patches(read.x, kernel, geometry, count, seed).double()
        x = read.by_example(read.x)
        taken = points(x.shape[1:2], len(x), count, seed)[0].to(x.device)
        return x.gather(1, taken[:, :, None].expand(-1, -1, x.shape[2])).flatten(0, 1).double()

    def _aimed(self, weight: str, rows: Tensor, targets: Tensor) -> Fields:
        before = int(self._held[weight]["count"]) if weight in self._held else 0
        y = targets[before : before + len(rows)].to(rows.device)
        if len(y) < len(rows):
            raise BadModel(
                f"{weight!r} reads more rows than the {len(targets)} of the network whose layers are the targets, as "
                f"where numbers computed on the way choose what is read; leave it out, as by frozen={weight!r}"
            )
        return {"cross": rows.T @ y, "target_sum": y.sum(0), "target_square": y.square().sum()}

    def values(self) -> dict[str, Fields]:
        """By weight."""
        found = {n: {f: t.cpu() for f, t in held.items()} for n, held in self._held.items()}
        for name, fields in found.items():
            fields["free"] = torch.tensor(self._free[name])
            if name in self._given:
                fields["given"] = torch.cat(self._given[name])
        return found


def has_intercept(writer: Writer) -> bool:
    """Whether a constant that a layer lacks has a place: its bias, or the running mean of a norm right behind it."""
    return writer.bias is not None or (writer.norm is not None and writer.norm.mean is not None)


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
class Target:
    """What a layer shall give, without its bias: Y (rows, outputs), by its products with what the layer reads."""

    cross: Tensor  # (d, outputs) X^T Y
    sum: Tensor  # (outputs,)
    square: float  # |Y|^2


@dataclass(frozen=True, eq=False)
class Inputs:
    """A layer that reads a group: its weight (outputs, d) and what it read, in float64, d = inputs * kernel."""

    name: str
    weight: Tensor
    gram: Tensor  # (d, d)
    sum: Tensor  # (d,)
    count: int
    columns: Tensor  # (units, m * kernel): which of the d belong to each unit
    free: bool  # an intercept has a place
    target: Target | None  # None: what it gives


def inputs_of(group: Group, evidence: Evidence) -> list[Inputs]:
    """Every layer that reads the group, with its Gram matrix. Raises `BadModel` where one has none, `NeedsData`."""
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
        if "free" not in fields:
            raise NeedsData("this evidence was stored before it told where an intercept has a place; collect it anew")
        weight = evidence.weight(member.tensor).to("cpu", torch.float64).movedim(member.axis, 1)
        kernel = weight[0, 0].numel()
        at = torch.from_numpy(member.index)[:, :, None] * kernel + torch.arange(kernel)
        flat = weight.flatten(1)
        if flat.shape[1] != fields["gram"].shape[0]:
            raise BadModel(
                f"group {group.name!r} is read by {member.tensor!r}, a stack of weights, with no one "
                f"Gram matrix of inputs; use a criterion that needs none, or frozen={group.name!r}"
            )
        target = None
        if "cross" in fields:
            target = Target(fields["cross"], fields["target_sum"], float(fields["target_square"]))
        count, free = int(fields["count"]), bool(fields["free"])
        found.append(Inputs(member.tensor, flat, fields["gram"], fields["sum"], count, at.flatten(1), free, target))
    if not found:
        raise BadModel(f"no layer with inputs to sample reads group {group.name!r}; use another criterion")
    return found
