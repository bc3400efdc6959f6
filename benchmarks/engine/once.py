"""One pruning of one model, timed in this process after a warm-up on a small net; prints one line of JSON.

    python benchmarks/engine/once.py resnet50 ours theirs

Ours: trace, score (L2), allocate (half of every group), cut without verify; the copy of the model that a cut makes
counts. Theirs: Torch-Pruning's BasePruner, built and stepped once, L2, ratio 0.5, classifier ignored, heads of
attention given; it prunes in place. Imports and building the model count for neither.
CPU seconds of one thread are what is compared; wall seconds are told too.
"""

import argparse
import copy
import gc
import json
import time

import torch
from subjects import subject
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import secateur
from secateur.allocation.uniform import Uniform

WARM_UP = "chain:4"


class Clock:
    """CPU seconds by step, which leave out what others do on the machine, and wall seconds in all."""

    def __init__(self):
        self.steps, self.wall = {}, 0.0
        self.started, self.last = time.perf_counter(), time.process_time()

    def lap(self, step):
        """Book the time since the step before under `step`."""
        now = time.process_time()
        self.steps[step], self.last = now - self.last, now
        self.wall = time.perf_counter() - self.started


def ours(model, example):
    """The cut model and the clock that timed the steps."""
    clock = Clock()
    graph = secateur.trace(model, example)
    clock.lap("trace")
    scores = secateur.score(graph, "l2")
    clock.lap("score")
    plan = secateur.allocate(graph, scores, allocator=Uniform(keep=0.5))
    clock.lap("allocate")
    small = secateur.cut(graph, plan, verify="off").model
    clock.lap("cut")
    return small, clock


def theirs(model, example):
    """The model, pruned in place, and the clock that timed the steps."""
    import torch_pruning as tp

    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    heads = {m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    clock = Clock()
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.BasePruner(
        model, example, importance=importance, pruning_ratio=0.5, ignored_layers=[head], num_heads=heads
    )
    clock.lap("construct")
    pruner.step()
    clock.lap("step")
    return model, clock


class Count(TorchDispatchMode):
    """Counts ATen ops."""

    def __init__(self):
        super().__init__()
        self.ops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops += 1
        return func(*args, **(kwargs or {}))


def ops(model, example):
    """How many ATen ops one forward runs."""
    with torch.no_grad(), Count() as count:
        model(example)
    return count.ops


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def touch_memory(model):
    """Ask for twice the model's memory and give it back: memory that a machine hands out anew may cost ten times more.

    Without it the toolkit that goes first pays for both.
    """
    held = [torch.ones_like(p) for _ in range(2) for p in model.parameters()]
    del held


def measure(side, model, example):
    """CPU seconds in all and by step, wall seconds, and the fraction of the parameters kept."""
    mine = copy.deepcopy(model)
    touch_memory(model)
    gc.collect()
    small, clock = side(mine, example)
    return {
        "cpu": sum(clock.steps.values()),
        "wall": clock.wall,
        "steps": clock.steps,
        "params_kept": parameters(small) / parameters(model),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("sides", nargs="+", choices=["ours", "theirs"], help="in this order")
    parser.add_argument("--size", type=int, default=224, help="height and width of torchvision's input")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sides = [{"ours": ours, "theirs": theirs}[side] for side in options.sides]
    for side in sides:
        measure(side, *subject(WARM_UP))
    model, example = subject(options.model, options.size)
    found = {side.__name__: measure(side, model, example) for side in sides}
    print(json.dumps({"ops": ops(model, example), **found}))


if __name__ == "__main__":
    main()
