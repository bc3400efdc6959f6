"""Train a model in place: one plain loop that methods plug into as hooks, and that can be killed at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.methods.hook import Hook
from secateur.training import checkpoint as files
from secateur.training import state
from secateur.training.distributed import Team, local_device, team
from secateur.training.evaluate import Loss, device_of, keeping_modes
from secateur.training.fingerprint import describe, describe_loader, refuse_other
from secateur.training.history import History, Row
from secateur.training.loader import Loader
from secateur.training.progress import Report, bar
from secateur.training.recipe import Recipe
from secateur.training.seeds import child_seed, seed_all, seeded

Evaluate = Callable[[nn.Module], float]


def fit(
    model: nn.Module,
    loader: Loader,
    recipe: Recipe,
    *,
    hooks: Sequence[Hook] = (),
    loss: Loss = F.cross_entropy,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    every: int = 200,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 1,
    patience: int | None = None,
    progress: bool = False,
    device: torch.device | str | None = None,
) -> History:
    """Train `model` in place by `recipe`; returns one row per epoch.

    `loss(outputs, y)` is a mean over the examples of a batch. All random numbers of step s follow from (seed, s), so on
    a CPU the same call gives the same weights, bit for bit (on a GPU as far as its kernels are deterministic).

    With `checkpoint`, the run is stored there after every `every` steps and at its end. The same call made again after
    a kill at any moment goes on from there and ends with the weights of a run that was never killed; after the end it
    restores the weights and returns at once.

    `evaluate(model)`, higher is better, is asked before training, after every `evaluate_every` epochs and at the end.
    With `patience` the run stops once that many evaluations in a row have not exceeded the best before them.

    Under torchrun each process takes its rows of every batch; hooks see averaged gradients; rank 0 alone writes and
    shows progress; metrics are averaged. `device` defaults to the local GPU there, and else to where the model is.

    The modes of the modules and the caller's random generators are put back at the end; gradients are None.

    Raises TrainingError for a loss that is not finite and for arguments that do not fit each other, CheckpointError for
    a checkpoint that is damaged, cannot be written, or belongs to another configuration (WrongArchitecture: model).
    """
    _check(loader, recipe, every, evaluate, evaluate_every, patience)
    device = torch.device(device) if device else local_device() or device_of(model)
    with team(device) as processes, keeping_modes(model), seeded(seed):
        run = _Run(
            model=model.to(device),
            loader=loader,
            recipe=recipe,
            hooks=hooks,
            loss=loss,
            seed=seed,
            path=Path(checkpoint) if checkpoint else None,
            every=every,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            patience=patience,
            team=processes,
            device=device,
        )
        run.resume()
        with bar(run.total, progress and processes.rank == 0) as report:
            run.go(report)
    return run.history


def _check(
    loader: Loader,
    recipe: Recipe,
    every: int,
    evaluate: Evaluate | None,
    evaluate_every: int,
    patience: int | None,
) -> None:
    for name, value in {"every": every, "evaluate_every": evaluate_every, "patience": patience}.items():
        if value is not None and value < 1:
            raise TrainingError(f"{name} = {value}: give at least 1.")
    if patience and not evaluate:
        raise TrainingError(f"patience = {patience} without `evaluate`: there is nothing to be patient about.")
    if recipe.batch_size != loader.batch_size:
        raise TrainingError(
            f"the recipe asks for batches of {recipe.batch_size} and the loader gives {loader.batch_size}: "
            "make both the same, for instance by Loader(..., batch_size=recipe.batch_size)."
        )


@dataclass
class _Run:
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
        if self.loader.size(len(self.loader) - 1) < self.team.world:
            raise TrainingError(
                f"the last batch has {self.loader.size(len(self.loader) - 1)} examples for {self.team.world} processes: "
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
            tensors, facts = files.read(self.path)
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
            files.write(self.path, state.capture(self.model, self.optimizer, self.hooks), facts)

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
