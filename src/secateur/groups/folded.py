"""Folded rows: what each unit computes of its inputs, with the batch norm behind a layer and the bias in it.

Two units whose folded rows agree have the same value before the activation, whatever the weights before the norm are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import BadModel
from ..graph.record import Norm, Writer
from .group import Group, Source


def is_depthwise(writer: Writer, model: nn.Module) -> bool:
    """Whether a layer only passes each unit on, through a kernel of its own."""
    if writer.weight is None or writer.groups == 1 or writer.transposed:
        return False
    return tensor_of(model, writer.weight).shape[1] == 1


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer, detached."""
    path, _, own = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(path), own)
    return found.detach()


def folding(model: nn.Module, norm: Norm | None) -> nn.modules.batchnorm._BatchNorm | None:
    """The batch norm behind a layer, if it is one of torch's that holds its own statistics."""
    module = None if norm is None else model.get_submodule(norm.path)
    if norm is None or not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_var is None:
        return None
    own = {name: f"{norm.path}.{name}" for name in ("weight", "bias", "running_mean")}
    scaled = module.weight is not None
    held = (own["weight"] if scaled else None, own["bias"] if scaled else None, own["running_mean"])
    return module if (norm.weight, norm.bias, norm.mean) == held else None


def row_tensors(group: Group, model: nn.Module) -> set[str]:
    """Names of the tensors that `folded_rows` is made of."""
    names: set[str | None] = set()
    for source in _sources(group, model):
        writer = source.writer
        names |= {writer.weight, writer.bias}
        if writer.norm is not None and folding(model, writer.norm) is not None:
            norm = writer.norm
            names |= {norm.weight, norm.bias, norm.mean, f"{norm.path}.running_var"}
    return {name for name in names if name is not None}


def between(group: Group, model: nn.Module) -> dict[str, Tensor]:
    """What holds a part of each unit and neither writes nor reads it: tensor name -> (units, numbers)."""
    written = row_tensors(group, model)
    found: dict[str, Tensor] = {}
    for m in group.members:
        if m.tensor not in written and not m.reads:
            held = tensor_of(model, m.tensor)
            index = torch.from_numpy(m.index.reshape(-1)).to(held.device)
            rows = held.index_select(m.axis, index).movedim(m.axis, 0).reshape(group.size, -1)
            found[m.tensor] = torch.cat([found[m.tensor], rows], 1) if m.tensor in found else rows
    return found


def folded_rows(group: Group, model: nn.Module) -> Tensor:
    """For each unit the rows of all layers that write it, folded, each with its bias: (units, numbers) float64.

    Depthwise convolutions do not write, they pass on. Raises `BadModel` where a weight is computed from others.
    """
    parts = [_folded(source, model) for source in _sources(group, model)]
    if not parts:
        raise BadModel(f"no layer's weights write group {group.name!r}, so that its units cannot be compared")
    return torch.cat(parts, 1)


def _sources(group: Group, model: nn.Module) -> list[Source]:
    """Each weight that writes the group, with each bias and each norm behind it, once."""
    found = {(s.writer.weight, s.writer.bias, s.writer.norm): s for s in group.sources}
    for source in found.values():
        if source.writer.weight is None or source.writer.computed:
            raise BadModel(
                f"group {group.name!r} is written by {source.writer.path!r}, whose weight is computed from others, so "
                "that its units cannot be compared"
            )
        if source.writer.viewed or source.rows.shape != source.index.shape:
            raise BadModel(
                f"group {group.name!r} is written by {source.writer.path!r}, whose outputs have no rows of their own "
                f"in {source.writer.weight}, so that its units cannot be compared; use another criterion"
            )
    return [s for s in found.values() if not is_depthwise(s.writer, model)]


def _folded(source: Source, model: nn.Module) -> Tensor:
    """(units, m * (I * kernel + 1)): a * W and beta + a * (b - mu), where a = gamma / sqrt(var + eps)."""
    writer, index = source.writer, torch.from_numpy(source.index)
    assert writer.weight is not None
    weight = tensor_of(model, writer.weight)
    at = index.reshape(-1).to(weight.device)

    def of_channels(tensor: Tensor | None, otherwise: float) -> Tensor:
        return (
            torch.full(at.shape, otherwise, dtype=torch.float64)
            if tensor is None
            else tensor.detach()[at].cpu().double()
        )

    rows = weight.index_select(writer.weight_axis, at).movedim(writer.weight_axis, 0).flatten(1).cpu().double()
    bias = of_channels(None if writer.bias is None else tensor_of(model, writer.bias), 0.0)
    norm = folding(model, writer.norm)
    if norm is not None:
        scale = of_channels(norm.weight, 1.0) / (of_channels(norm.running_var, 1.0) + norm.eps).sqrt()
        rows = rows * scale[:, None]
        bias = of_channels(norm.bias, 0.0) + scale * (bias - of_channels(norm.running_mean, 0.0))
    return torch.cat([rows, bias[:, None]], 1).reshape(len(index), -1)
