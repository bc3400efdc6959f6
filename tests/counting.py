"""An independent count of what a model costs: torch's own counter on meta tensors, and the tensors themselves."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from secateur.cost.cost import Cost
from secateur.graph.example import call, map_tensors, tensors


def counted(model: nn.Module, example: Any) -> Cost:
    """Multiply-accumulates of one forward in eval mode, parameters, bytes of those and buffers, and of activations."""
    ghost = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        call(ghost, map_tensors(example, lambda t: t.to("meta")))
    params = sum(p.numel() for p in model.parameters())
    held = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    assert counter.get_total_flops() % 2 == 0
    return Cost(counter.get_total_flops() // 2, params, held, most_memory(model, example))


class Memory(TorchDispatchMode):
    """Which storages each op of a real forward reads and makes, by address and size."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[set[int]] = []
        self.sizes: dict[int, int] = {}
        self.alive: list[Any] = []  # so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace != "prim" and tensors(result):
            self.ops.append({self.note(t) for t in tensors((args, kwargs or {}, result))})
        return result

    def note(self, t: Any) -> int:
        self.alive.append(t)
        key = t.untyped_storage()._cdata
        self.sizes[key] = t.untyped_storage().nbytes()
        return key


def most_memory(model: nn.Module, example: Any) -> int:
    """Bytes alive at the op where they are most: storages are alive from the first op that holds them to the last."""
    model = copy.deepcopy(model).eval()
    fixed = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    given = {t.untyped_storage()._cdata for t in tensors(example)}
    with torch.no_grad(), Memory() as memory:
        kept = {t.untyped_storage()._cdata for t in tensors(call(model, example))}
    best, now = 0, len(memory.ops)
    first = dict.fromkeys(given, 0)
    last = dict.fromkeys(kept, now)
    for i, held in enumerate(memory.ops):
        for key in held:
            first.setdefault(key, i)
            last[key] = max(last.get(key, 0), i)
    for i in range(now):
        alive = (k for k in memory.sizes if k not in fixed and first[k] <= i <= last[k])
        best = max(best, sum(memory.sizes[k] for k in alive))
    return best
