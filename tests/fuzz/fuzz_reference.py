"""A reference that knows nothing of the engine's masks: what was removed is NaN, and each op says what NaN means to it.

Removed slices of parameters are set to NaN. Sums of products skip NaN, and give NaN where nothing else arrives;
norms, softmax, means run over what is not NaN; all other ops spread NaN by themselves, channel by channel.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from held import tensors_of
from secateur.graph.example import call, map_tensors, tensors
from secateur.groups.graph import Graph
from secateur.groups.plan import Plan

NAN = float("nan")
PRODUCTS = {"linear", "matmul", "__matmul__", "bmm", "einsum"} | {
    f"conv{t}{d}d" for t in ("", "_transpose") for d in "123"
}


def silenced(graph: Graph, plan: Plan) -> list[Tensor]:
    """Outputs of the original in float64 when only the kept units speak."""
    model = copy.deepcopy(graph.model).double().eval()
    held = tensors_of(model)
    with torch.no_grad(), OnlyKept():
        for name, units in plan.kept.items():
            group = graph[name]
            gone = np.setdiff1d(np.arange(group.size), units)
            for member in group.members:
                if held[member.tensor].is_floating_point():
                    index = torch.from_numpy(member.index[gone].reshape(-1))
                    held[member.tensor].detach().index_fill_(member.axis, index, NAN)
        x = map_tensors(graph.example, lambda t: t.double() if t.is_floating_point() else t)
        return tensors(call(model, x))


class OnlyKept(TorchFunctionMode):
    """Gives NaN its meaning in the ops that would spread it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in PRODUCTS:
            return product(func, args, kwargs)
        handler = globals().get(f"on_{name}")
        return func(*args, **kwargs) if handler is None else handler(*args, **kwargs)


def product(func: Any, args: Any, kwargs: Any) -> Tensor:
    """Zero for NaN; NaN where every product has one of them, found by counting with ones."""
    result = func(*(zero(a) for a in args), **{k: zero(v) for k, v in kwargs.items()})
    bias = () if func.__name__.endswith(("matmul", "bmm", "einsum")) else (None,)
    ones = [(~a.isnan()).double() if isinstance(a, Tensor) else a for a in args]
    ones[2:3] = bias if len(args) > 2 and bias else ones[2:3]
    named = {k: (~v.isnan()).double() if isinstance(v, Tensor) else v for k, v in kwargs.items() if k != "bias"}
    return torch.where(func(*ones, **named) == 0, NAN, result)


def zero(x: Any) -> Any:
    return torch.nan_to_num(x, nan=0.0, posinf=float("inf"), neginf=-float("inf")) if isinstance(x, Tensor) else x


def on_softmax(x: Tensor, dim: int, *rest: Any) -> Tensor:
    gone = x.isnan()
    return torch.where(gone, NAN, torch.where(gone, -float("inf"), x).softmax(int(dim)))


def on_sum(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return torch.where(x.isnan().all(dim, keepdim=keepdim), NAN, x.nansum(dim, keepdim=keepdim))


def on_mean(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return x.nanmean(dim, keepdim=keepdim)


def on_amax(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    most = torch.where(x.isnan(), -float("inf"), x).amax(dim, keepdim=keepdim)
    return torch.where(x.isnan().all(dim, keepdim=keepdim), NAN, most)


def on_var(x: Tensor, dim: Any, unbiased: bool = False, keepdim: bool = False, correction: int = 0) -> Tensor:
    assert (unbiased, correction) == (False, 0), "only the plain mean of squares is written here"
    return (x - x.nanmean(dim, keepdim=True)).pow(2).nanmean(dim, keepdim=keepdim)


def on_layer_norm(x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    x = x if weight is None else torch.where(weight.isnan(), NAN, x)
    y = (x - x.nanmean(-1, keepdim=True)) / (on_var(x, -1, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def on_rms_norm(x: Tensor, shape: Any, weight: Any = None, eps: Any = None) -> Tensor:
    x = x if weight is None else torch.where(weight.isnan(), NAN, x)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    y = x / (x.pow(2).nanmean(-1, keepdim=True) + eps).sqrt()
    return y if weight is None else y * weight


def on_group_norm(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    x = x if weight is None else torch.where(weight.isnan().view(shape), NAN, x)
    y = on_layer_norm(x.reshape(x.shape[0], int(groups), -1), None, eps=eps).reshape(x.shape)
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def on_normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    return x / on_sum(x.pow(2), int(dim), keepdim=True).sqrt().clamp_min(eps)


def on_scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Torch's own scale is that of the head as it was."""
    y = F.scaled_dot_product_attention(zero(q), zero(k), zero(v), **options)
    return torch.where(v.isnan().all(-2, keepdim=True), NAN, y)


def _recurrent(name: str) -> Any:
    def steps(x: Tensor, hx: Any, weights: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
        """Without weights a hidden unit stays zero in each of torch's cells; it is gone where its columns are."""
        y, *states = getattr(torch, name)(zero(x), hx, [zero(w) for w in weights], *rest)
        cells = [w for w in weights if w.dim() == 2][1::2]
        gone = torch.stack([w.isnan().all(0) for w in cells])  # (directions, H)
        states = [torch.where(gone[:, None], NAN, s) for s in states]
        return (torch.where(gone.flatten(), NAN, y), *states)

    return steps


on_lstm, on_gru, on_rnn_tanh = map(_recurrent, ("lstm", "gru", "rnn_tanh"))


def on_multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    width: int,
    heads: int,
    weight: Tensor,
    bias: Tensor,
    *rest: Any,
    **named: Any,
) -> tuple[Tensor, None]:
    """Self-attention without masks, (T,B,C); `rest` holds the output layer's weight and bias."""
    out, out_bias = rest[4:6]
    with OnlyKept():
        y = F.linear(query, weight, bias).unflatten(-1, (3, int(heads), -1)).permute(2, 1, 3, 0, 4)
        y = F.scaled_dot_product_attention(y[0], y[1], y[2])  # (B,H,T,D)
        return F.linear(y.permute(2, 0, 1, 3).flatten(2), out, out_bias), None
