"""An independent count of what a model costs: torch's own counter on meta tensors, and the tensors themselves."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from secateur.cost.cost import Cost
from secateur.graph.example import call, map_tensors


def counted(model: nn.Module, example: Any) -> Cost:
    """Multiply-accumulates of one forward in eval mode, parameters, and bytes of parameters and buffers."""
    ghost = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        call(ghost, map_tensors(example, lambda t: t.to("meta")))
    params = sum(p.numel() for p in model.parameters())
    held = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    assert counter.get_total_flops() % 2 == 0
    return Cost(counter.get_total_flops() // 2, params, held)
