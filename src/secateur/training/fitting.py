"""One call of `fit`: its steps, and how they are stored and taken up again.

Epoch and position in it follow from the number of steps done, the batches and random numbers from that and the seeds,
the rates from the recipe, and an early stop from the history: what is stored is small, and a restart cannot drift.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.methods.hook import Hook
from secateur.training import checkpoint, state
from secateur.training.distributed import Team
from secateur.training.evaluate import Loss
from secateur.training.fingerprint import describe, describe_loader, refuse_other
from secateur.training.history import History, Row
from secateur.training.loader import Loader
from secateur.training.progress import Report
from secateur.training.recipe import Recipe
from secateur.training.seeds import child_seed, seed_all

Evaluate = Callable[[nn.Module], float]


@dataclass
class Fitting:
    """The arguments of `fit`, and below them what changes from step to step and is stored."""

    model: nn.Module
    loader: Loader
    recipe: Recipe
    hooks: Sequence[Hook]
    loss: Loss
    seed: int
    path: Path | None
    every: int
    evaluate: Evaluate | None
    evaluate_every: int
    patience: int | None
    team: Team
    device: torch.device

    step: int = 0  # steps done
    summed: float = 0.0  # loss times examples, of this epoch so far
    seconds: float = 0.0  # of this epoch so far
    history: History = field(default_factory=History)
    stored: int | None = None  # the step of the checkpoint on disk

    def __post_init__(self) -> None:
        self.total = self.recipe.epochs * len(self.loader)
        if (last := self.loader.size(len(self.loader) - 1)) < self.team.world:
            raise TrainingError(
                f"the last batch has {last} examples for {self.team.world} processes: "
                "give the loader drop_last=True or another batch_size."
            )
        for hook in self.hooks:
            hook.on_start(self.model)
        trained: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:
            raise TrainingError("the model has no parameter with requires_grad: there is nothing to train.")
        self.optimizer = self.recipe.build(trained)
        self.module = self.team.wrap(self.model)

    @property
    def done(self) -> bool:
        """All steps are made, or the evaluations have stopped improving."""
        return self.step == self.total or self.history.is_stale(self.patience)

    def go(self, report: Report) -> None:
        """From the current step to the end."""
        if self.evaluate and not self.history.rows:
            self.history.rows.append(Row(0, None, None, 0.0, self._measure(self.evaluate)))
        while not self.done:
            self._epoch(report)
        self.optimizer.zero_grad()
        if self.stored != self.step:
            self._store()

    def resume(self) -> None:
        """Take over the checkpoint, if there is one."""
        if self.path and self.path.exists():
            tensors, facts = checkpoint.read(self.path)
            refuse_other(self._configuration(), facts["configuration"], self.path)
            state.restore(tensors, self.model, self.optimizer, self.hooks)
            self.history = History([Row(**row) for row in facts["history"]])
            self.step, self.summed, self.seconds = facts["step"], facts["summed"], facts["seconds"]
            self.stored = self.step
        self.team.agree_on(self.step, self.device)

    def _store(self) -> None:
        self.stored = self.step
        if self.path and self.team.rank == 0:
            facts = {
                "configuration": self._configuration(),
                "done": self.done,
                "step": self.step,
                "summed": self.summed,
                "seconds": self.seconds,
                "history": [asdict(row) for row in self.history.rows],
            }
            checkpoint.write(self.path, state.capture(self.model, self.optimizer, self.hooks), facts)

    def _configuration(self) -> dict[str, Any]:
        """What a checkpoint must agree with; the model is compared tensor by tensor."""
        return {
            "recipe": self.recipe.model_dump(),
            "seed": self.seed,
            "loader": describe_loader(self.loader),
            "loss": describe(self.loss),
            "hooks": [describe(hook) for hook in self.hooks],
            "evaluations": [self.evaluate is not None, self.evaluate_every, self.patience],
            "processes": self.team.world,
        }

    def _epoch(self, report: Report) -> None:
        """The rest of the current epoch."""
        epoch, start = divmod(self.step, len(self.loader))
        self.model.train()
        self._begin_step()
        for x, y in self.loader.epoch(epoch, start, self.team.rank, self.team.world):
            value, lr = self._train_step(x, y)
            if self.step % len(self.loader) == 0:
                self._end_epoch(epoch + 1, lr)
            if self.step % self.every == 0:
                self._store()
            report(self.step, value, lr, self.history.metrics[-1] if self.history.metrics else None)
            self._begin_step()

    def _begin_step(self) -> None:
        """Comes before the batch is fetched: transforms that draw from the global generators are part of the step."""
        self.clock = time.perf_counter()
        seed_all(child_seed(self.seed, "step", self.step, self.team.rank))

    def _train_step(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        lr = self.recipe.set_rates(self.optimizer, self.step, self.total)
        examples = self.loader.size(self.step % len(self.loader))
        self.optimizer.zero_grad()
        loss = self._loss(x, y, share=len(y) * self.team.world / examples)
        value = self.team.mean(loss, self.device)
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at step {self.step} (lr {lr:g}): try a lower lr or some warmup.")
        loss.backward()
        seed_all(child_seed(self.seed, "hooks", self.step))  # the same on all ranks, whose weights must stay equal
        for hook in self.hooks:
            hook.after_backward(self.model, lr)
        self.optimizer.step()
        for hook in self.hooks:
            hook.after_step(self.model, lr)
        self.step += 1
        self.summed += value * examples
        self.seconds += time.perf_counter() - self.clock
        return value, lr

    def _loss(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """The loss of this process, weighted so that the mean over processes is the loss of the whole batch."""
        loss = self.loss(self.module(x.to(self.device)), y.to(self.device)) * share
        for hook in self.hooks:
            if (penalty := hook.penalty(self.model)) is not None:
                loss = loss + penalty
        return loss

    def _end_epoch(self, epoch: int, lr: float) -> None:
        self.team.share_buffers(self.model)
        for hook in self.hooks:
            hook.after_epoch(self.model, epoch)
        due = epoch % self.evaluate_every == 0 or epoch == self.recipe.epochs
        metric = self._measure(self.evaluate) if self.evaluate and due else None
        examples = min(self.loader.examples, len(self.loader) * self.loader.batch_size)
        self.history.rows.append(Row(epoch, self.summed / examples, lr, self.seconds, metric))
        self.summed = self.seconds = 0.0

    def _measure(self, evaluate: Evaluate) -> float:
        metric = self.team.mean(float(evaluate(self.model)), self.device)
        if math.isnan(metric):
            raise TrainingError(f"the evaluation after {self.step} steps gave {metric}.")
        return metric
