"""In which order the modules of a model are called, from one forward on fake tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..graph.example import as_call, map_tensors
from ..graph.trace import undisturbed
from ..groups.graph import Graph


def first_calls(graph: Graph) -> dict[str, int]:
    """Module path -> how many calls of modules came before its first; modules that are never called are left out.

    The model, its mode and the RNG are left as they were; errors of its forward come through as they are.
    """
    model = graph.model
    paths = {id(module): path for path, module in model.named_modules()}
    calls: dict[str, int] = {}

    def enter(module: nn.Module, *_: Any) -> None:
        path = paths.get(id(module))
        if path is not None:
            calls.setdefault(path, len(calls))

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    state: dict[str, Tensor] = {n: fake.from_tensor(t) for n, t in _held(model)}
    args, kwargs = (map_tensors(given, fake.from_tensor) for given in as_call(graph.example))
    hook = nn.modules.module.register_module_forward_pre_hook(enter)
    try:
        with torch.inference_mode(False), undisturbed(model), torch.no_grad(), fake:
            torch.func.functional_call(model, state, args, kwargs)
    finally:
        hook.remove()
    return calls


def _held(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]
