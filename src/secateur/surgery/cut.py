"""Cut: slice parameters, buffers and the ints behind shapes, in place on the user's own classes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SurgeryError
from ..graph.labels import Axis
from ..graph.provenance import Attribute, assign, evaluate
from ..graph.record import Residual, restated
from ..groups.graph import Graph
from ..groups.plan import Plan
from .drop import check, drop
from .pretrained import guard


@dataclass(frozen=True)
class Edits:
    """Everything a cut will set, worked out before anything is set."""

    indices: dict[str, dict[int, NDArray[np.int64]]]  # tensor name -> axis -> positions kept
    attributes: dict[Attribute, int]
    dropped: tuple[Residual, ...] = ()


def edits(graph: Graph, plan: Plan) -> Edits:
    """What a plan means for each tensor and attribute.

    Raises `PlanError` when the plan does not fit, `SurgeryError` when an int cannot be made to follow.
    """
    plan.check(graph)
    alive = graph.alive(plan.kept)
    indices: dict[str, dict[int, NDArray[np.int64]]] = {}
    for name, axes in graph.trace.tensors.items():
        for d, axis in enumerate(axes):
            keep = alive[axis]
            if not keep.all():
                indices.setdefault(name, {})[d] = np.flatnonzero(keep)
    dropped = tuple(r for r in graph.trace.residuals if not alive[r.axis].all())
    check(graph.model, dropped)
    return Edits(indices, _attributes(graph, alive), dropped)


def _attributes(graph: Graph, alive: NDArray[np.bool_]) -> dict[Attribute, int]:
    def kept(axis: Axis) -> int:
        return int(alive[axis].sum())

    before = graph.trace.attributes
    values = restated(graph.trace.owners, before, kept)
    changed = {a: v for a, v in values.items() if v != before[a]}
    for need in graph.trace.needs:
        if evaluate(need.source, values, kept) != kept(need.axis):
            raise SurgeryError(
                f"{need.use} at {need.path or 'the model'} would be {evaluate(need.source, values, kept)} after the "
                f"cut, but {kept(need.axis)} indices are left; freeze that module with frozen={need.path!r}"
            )
    return changed


def copied(model: nn.Module, edits: Edits) -> nn.Module:
    """A copy with everything set; what is cut away is never copied."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        memo: dict[int, Any] = {id(named[name]): _sliced(named[name], axes) for name, axes in edits.indices.items()}
    made = copy.deepcopy(model, memo)
    _restate(made, edits)
    return made


def apply(model: nn.Module, edits: Edits) -> None:
    """Set everything, in place.

    Shared parameters stay shared; dtype, device, requires_grad and memory format survive.
    """
    fresh: dict[int, Tensor] = {}
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, axes in edits.indices.items():
            fresh[id(named[name])] = _sliced(named[name], axes)
    for module in model.modules():
        for slots in cast("tuple[dict[str, Tensor | None], ...]", (module._parameters, module._buffers)):
            for key, tensor in slots.items():
                if tensor is not None and id(tensor) in fresh:
                    slots[key] = fresh[id(tensor)]
    _restate(model, edits)


def replace_by(model: nn.Module, small: nn.Module, edits: Edits) -> None:
    """Make `model` what its cut copy `small` is, in place; tensors that were not cut stay the objects they are."""
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    cut = {id(held[name]) for name in edits.indices}
    others_by_name = dict(small.named_modules())
    for name, module in model.named_modules():
        if name not in others_by_name:  # in a block that goes
            continue
        other = others_by_name[name]
        for slots, others in ((module._parameters, other._parameters), (module._buffers, other._buffers)):
            for key, tensor in cast("dict[str, Tensor | None]", slots).items():
                mine = cast("dict[str, Tensor | None]", others).get(key)
                if tensor is None or mine is None:
                    continue
                if id(tensor) in cut:
                    cast("dict[str, Tensor | None]", slots)[key] = mine
                elif not torch.equal(tensor, mine):
                    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                        tensor.copy_(mine)
    _restate(model, edits)


def _restate(model: nn.Module, edits: Edits) -> None:
    assign(model, edits.attributes)
    drop(model, edits.dropped)
    for module in model.modules():
        restate(module)
    forget(model)
    if edits.indices or edits.dropped:
        guard(model)


def _sliced(tensor: Tensor, axes: dict[int, NDArray[np.int64]]) -> Tensor:
    data: Tensor = tensor.detach()
    channels_last = data.dim() == 4 and data.is_contiguous(memory_format=torch.channels_last)
    for d, index in axes.items():
        data = data.index_select(d, torch.from_numpy(index).to(data.device))
    data = data.contiguous(memory_format=torch.channels_last) if channels_last else data.contiguous()
    if isinstance(tensor, nn.Parameter):
        data = nn.Parameter(data, requires_grad=tensor.requires_grad)
        data.__dict__.update(tensor.__dict__)  # what others have noted on the parameter
    return data


def forget(model: nn.Module) -> None:
    """Let modules drop what they remember of their weights: those that do remember, forget when the mode changes."""
    modes = [(module, module.training) for module in model.modules()]
    for module, training in modes:
        if type(module).train is not nn.Module.train:
            module.train(not training)
            module.train(training)
    for module, training in modes:
        module.training = training


def restate(module: nn.Module) -> None:
    """Bring the sizes that torch's own layers state about themselves in line with their tensors."""
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    for attribute, value in _stated(module).items():
        if getattr(module, attribute) != value:
            setattr(module, attribute, value)


def _raw_weight(module: nn.Module) -> Any:
    """The weight, or what a parametrization computes it from; asking for a computed one could change its buffers."""
    own = module._parameters.get("weight")
    held = module._modules.get("parametrizations")
    if own is not None or held is None or "weight" not in dict(held.named_children()):
        return own
    of = dict(dict(held.named_children())["weight"].named_parameters(recurse=False))
    return of.get("original", of.get("original1"))


def _stated(module: nn.Module) -> dict[str, Any]:
    weight = _raw_weight(module)
    if isinstance(module, nn.modules.conv._ConvNd) and isinstance(weight, Tensor):
        first, second = weight.shape[0], weight.shape[1] * module.groups
        names = ("in_channels", "out_channels") if module.transposed else ("out_channels", "in_channels")
        return {names[0]: first, names[1]: second}
    if isinstance(module, nn.Linear) and isinstance(weight, Tensor):
        return {"out_features": weight.shape[0], "in_features": weight.shape[1]}
    if isinstance(module, nn.modules.batchnorm._NormBase):
        held = weight if isinstance(weight, Tensor) else module._buffers.get("running_mean")
        return {} if held is None else {"num_features": held.shape[0]}
    if isinstance(module, nn.Embedding):
        return {} if weight is None else {"num_embeddings": weight.shape[0], "embedding_dim": weight.shape[1]}
    if isinstance(module, nn.GroupNorm) and isinstance(weight, Tensor):
        return {"num_channels": weight.shape[0]}
    return {}
