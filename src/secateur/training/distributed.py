"""One run on several processes: what the loop needs to know of the others, and nothing when it is alone.

Start the same script with `python -m torch.distributed.run --nproc_per_node N script.py`; nothing in it changes.
"""

from __future__ import annotations

import atexit
import gc
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from secateur.errors import CheckpointError


@dataclass(frozen=True)
class Team:
    """This process among `world` of them."""

    rank: int = 0
    world: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module to call: one that averages gradients over the processes, or the model itself when alone."""
        return DistributedDataParallel(model) if self.world > 1 else model

    def mean(self, value: Tensor | float, device: torch.device) -> float:
        """The mean of a scalar over the processes."""
        number = value.item() if isinstance(value, Tensor) else value
        if self.world == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return float(total) / self.world

    def share_buffers(self, model: nn.Module) -> None:
        """Give everyone the buffers of rank 0, such as running statistics, which each process updates on its own."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def agree_on(self, step: int, device: torch.device) -> None:
        """Raises CheckpointError where the processes found different checkpoints."""
        mean = self.mean(float(step), device)
        if self.mean(abs(step - mean), device) > 0:
            raise CheckpointError(
                f"rank {self.rank} resumes at step {step}, others do not: share the checkpoint's folder."
            )


def team(device: torch.device) -> Team:
    """The processes that torchrun started, or the group that the caller set up.

    A group set up here stays for later calls and is taken down when Python exits: torch cannot reliably set up a second
    one under the same torchrun (the ranks meet at addresses of the first).
    """
    if not (dist.is_available() and dist.is_initialized()):
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return Team()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_take_down)
    return Team(dist.get_rank(), dist.get_world_size())


def _take_down() -> None:
    gc.collect()  # a wrapped model that is still waiting for collection keeps the group's threads alive: abort at exit
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device() -> torch.device | None:
    """The GPU that torchrun meant for this process, if it runs under torchrun on a machine with GPUs."""
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return None
