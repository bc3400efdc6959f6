"""A linear surrogate of a model, and the scores of its last features carried back through it to every group.

Weights are replaced by their absolute values, activations and norms by the identity, the maximum of a pool by its mean.
Of what is left, in float64, the gradient of <s, what the last layer reads> with respect to what a layer reads is s
carried back: autograd adds up the branches that a tensor goes to, gives both terms of a sum the same, and splits a
concatenation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import BadModel
from ..graph.example import as_call, map_tensors, tensors
from ..graph.record import Contraction
from ..graph.trace import undisturbed
from ..groups.graph import Graph
from .readers import Reader, at_readers, readers

Norms = Literal["identity", "scaled"]

_IDENTITY = {
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("sigmoid", "tanh", "hardsigmoid", "hardswish", "hardtanh", "logsigmoid", "softsign", "tanhshrink", "clamp"),
    *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *(
        "neg",
        "negative",
        "abs",
        "detach",
        "to",
        "cpu",
        "cuda",
        "float",
        "double",
        "half",
        "bfloat16",
        "type",
        "type_as",
    ),
    *("__neg__", "__pos__", "__abs__"),
}
_LINEAR = {
    *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "permute", "transpose", "t", "movedim"),
    *("moveaxis", "swapaxes", "swapdims", "squeeze", "unsqueeze", "contiguous", "clone", "expand", "expand_as"),
    *("repeat", "repeat_interleave", "tile", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "split"),
    *("chunk", "tensor_split", "unbind", "select", "narrow", "index_select", "roll", "flip", "pad", "unfold", "fold"),
    *("mean", "sum", "add", "add_", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "interpolate", "upsample"),
    *(f"{kind}_pool{n}d" for kind in ("avg", "adaptive_avg") for n in (1, 2, 3)),
    *("__get__", "__getitem__", "__add__", "__radd__", "__iadd__", "requires_grad_"),
}
_DIFFERENCES = {"sub", "subtract", "rsub", "__sub__", "__rsub__", "__isub__"}
_PRODUCTS = {
    *("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "bilinear", "__matmul__", "__rmatmul__"),
    *(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)),
    *("mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"),
}
_DATA: Any = vars(torch._C.TensorBase)["data"]
_QUOTIENTS = {"div", "div_", "divide", "true_divide", "__truediv__", "__itruediv__", "__div__"}


class Surrogate(TorchFunctionMode):
    """Meanwhile, functions of tensors that need a gradient, which are the activations, are those of the surrogate.

    Raises `BadModel` at what has none: products of activations, softmax, and whatever else is not listed above.
    """

    def __init__(self, norms: Norms = "identity") -> None:
        super().__init__()
        self._norms = norms

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        live = [t for t in tensors((args, kwargs)) if t.requires_grad]
        if not live:
            result = func(*args, **kwargs)
            return _wide(result).requires_grad_() if name == "embedding" else result
        plain = name.rstrip("_") if not name.startswith("__") else name
        if plain in _IDENTITY or getattr(func, "__self__", None) is _DATA:
            return self._passed(plain, live[0], args, kwargs)
        if re.fullmatch(r"(adaptive_)?max_pool[123]d", plain):
            return _mean_pool(plain, *args, **kwargs)
        if plain == "amax":
            return torch.mean(*args, **kwargs)
        if plain in _DIFFERENCES and len(args) == 2 and not kwargs:
            return args[0].add_(args[1]) if name in ("sub_", "__isub__") else args[0] + args[1]
        if plain in _PRODUCTS and len(live) == 1:
            return func(*_absolute(args), **{k: _absolute(v) for k, v in kwargs.items()})
        if plain in _QUOTIENTS and len(live) == 1 and live[0] is args[0]:
            return func(args[0], *_absolute(args[1:]), **kwargs)
        result = func(*args, **kwargs)
        if plain in _LINEAR or not any(t.requires_grad for t in tensors(result)):
            return result
        product = plain in _PRODUCTS | _QUOTIENTS
        raise BadModel(f"{f'{name} of two activations' if product else name} is not linear and has no surrogate")

    def _passed(self, name: str, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if name != "batch_norm" or self._norms == "identity":
            return x
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(names, args, strict=False)) | kwargs
        weight, variance = given.get("weight"), given.get("running_var")
        if variance is None:  # statistics of the batch: what it divides by is not known
            return x
        scale = (_wide(variance) + given.get("eps", 1e-5)).rsqrt()
        scale = scale if weight is None else scale * _wide(weight).abs()
        return x * scale.reshape(1, -1, *[1] * (x.dim() - 2))


def _absolute(tree: Any) -> Any:
    """Constants by their absolute value, in float64; activations, and what is no number, as they are."""
    if isinstance(tree, Tensor):
        return _wide(tree).abs() if not tree.requires_grad and tree.is_floating_point() else tree
    if isinstance(tree, (tuple, list)):
        return type(tree)(_absolute(v) for v in tree)
    return abs(tree) if isinstance(tree, (int, float)) and not isinstance(tree, bool) else tree


def _mean_pool(
    name: str,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Mean over the same windows as the maximum."""
    if name.startswith("adaptive"):
        pool: Any = getattr(F, f"adaptive_avg_pool{name[-2]}d")
        return pool(input, kernel_size)
    if return_indices or set(dilation if isinstance(dilation, (tuple, list)) else [dilation]) != {1}:
        raise BadModel(f"{name} with dilation or indices has no surrogate")
    pool = getattr(F, f"avg_pool{name[-2]}d")
    return pool(input, kernel_size, stride, padding, ceil_mode)


def last_layer(graph: Graph) -> Contraction | None:
    """The last product with a parameter."""
    return next((c for c in reversed(graph.trace.contractions) if c.weight is not None), None)


def propagate(
    graph: Graph, responses: Tensor, *, norms: Norms = "identity", kept: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Scores of what the last layer reads, carried back: group -> (units,) float64, summed over positions and readers.

    `responses` (inputs of the last layer,), from 0 up. `norms`: "identity", or "scaled", by which batch norms multiply
    by |gamma| / sqrt(variance + eps). `kept`: units of groups, beside which the others of a group carry nothing on.
    Groups from which the last layer reads nothing are left out. Raises `BadModel` where there is no such surrogate.
    """
    last = last_layer(graph)
    if last is None or responses.shape != (last.labels.size,):
        wanted = "a layer with a weight of its own" if last is None else f"({last.labels.size},) scores"
        raise BadModel(f"scores of shape {tuple(responses.shape)} cannot be carried back: {wanted} needed")
    watched = {**readers(graph)}
    watched.setdefault(last.number, Reader(last, {}))
    read: list[tuple[Reader, Tensor, int]] = []

    def see(reader: Reader, x: Tensor, axis: int) -> None:
        read.append((reader, x, axis))
        if kept and x.requires_grad:
            passes = _passing(reader, kept).reshape([-1 if d == axis else 1 for d in range(x.dim())]).to(x)
            x.register_hook(lambda g: g * passes)

    model = graph.model
    with undisturbed(model), torch.enable_grad():
        state = {n: t.detach() for n, t in model.named_parameters()}  # whatever has a gradient is an activation
        call = map_tensors(as_call(graph.example), lambda t: _wide(t).requires_grad_(t.is_floating_point()))
        with Surrogate(norms), at_readers(graph, watched, see):
            torch.func.functional_call(model, state, *call)
        final = next((x.movedim(axis, -1) for r, x, axis in read if r.contraction is last and x.requires_grad), None)
        if final is None:
            raise BadModel(f"what layer {last.path!r} reads could not be watched")
        total = (final * responses.to(final)).sum() / len(final)
        read = [r for r in read if r[1].requires_grad]
        gradients = torch.autograd.grad(total, [x for _, x, _ in read], allow_unused=True)
    found: dict[str, Tensor] = {}
    for (reader, _, axis), gradient in zip(read, gradients, strict=True):
        if gradient is not None:
            each = gradient.movedim(axis, -1).reshape(-1, gradient.shape[axis]).sum(0).cpu()
            for name in reader.groups:
                found[name] = found.get(name, 0.0) + reader.per_unit(name, each)
    return found


def _passing(reader: Reader, kept: Mapping[str, Tensor]) -> Tensor:
    """(positions,) 1, and 0 for units that are not kept."""
    passes = torch.ones(reader.contraction.labels.size, dtype=torch.float64)
    for name, index in reader.groups.items():
        if name in kept:
            gone = torch.ones(len(index), dtype=torch.bool)
            gone[kept[name]] = False
            passes[index[gone].reshape(-1)] = 0
    return passes


def _wide(t: Tensor) -> Tensor:
    return t.detach().double() if t.is_floating_point() else t.detach()
