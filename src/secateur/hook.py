"""What a method, or a mask, may do while a model trains: six moments, all of them optional.

The training loop (or a loop of your own) calls a hook in this order:

    hook.on_start(model)
    for each epoch:
        for each batch:
            loss = loss_of(batch) + hook.penalty(model)
            loss.backward();   hook.after_backward(model, lr)
            optimizer.step();  hook.after_step(model, lr)
        hook.after_epoch(model, epoch)

A hook that keeps no state between steps needs nothing else; one that does returns it from `state_dict`, so that a run
that was killed and started again goes on exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Hook:
    """Does nothing at every moment; a method overrides the moments it needs.

    Random draws inside a hook are reproducible: the loop seeds Python, NumPy and torch before each step.
    """

    def on_start(self, model: nn.Module) -> None:
        """Once before training, also of a resumed run (the stored state is loaded after it).

        The optimizer is built after this moment: parameters added here are trained and stored.
        """

    def penalty(self, model: nn.Module) -> Tensor | None:
        """A scalar added to the loss of this step, or None."""

    def after_backward(self, model: nn.Module, lr: float) -> None:
        """Gradients of this step are complete (and averaged over processes); the weights have not moved yet."""

    def after_step(self, model: nn.Module, lr: float) -> None:
        """The optimizer has moved the weights with learning rate `lr`."""

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Epoch number `epoch`, counted from 1, has ended; the evaluation of this epoch comes after this moment."""

    def state_dict(self) -> dict[str, Tensor]:
        """What must survive a restart; empty for a stateless hook."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
