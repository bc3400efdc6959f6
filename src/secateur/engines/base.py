"""The contract of an engine, and of what it makes of a model: a runner with its inputs bound."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import MissingDependency
from ..graph.example import Example, as_call, map_tensors, results
from ..registry import Registry


class Runner(AbstractContextManager["Runner"]):
    """A model made ready to run on one example; `close` frees what it holds."""

    def __call__(self) -> None:
        """Run once on the example; nothing is converted or copied from call to call."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__()")

    def outputs(self) -> tuple[Tensor, ...]:
        """What one run gives: its float tensors, flattened in order, as copies."""
        raise NotImplementedError(f"{type(self).__name__} does not define outputs()")

    def close(self) -> None:
        """Free what it holds; it runs no more."""
        vars(self).clear()

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Engine:
    """One way to run a model on this machine's CPU."""

    name: ClassVar[str] = ""

    def version(self) -> str:
        """Library and version, such as `torch 2.13.0`. Raises `MissingDependency`."""
        raise NotImplementedError(f"{type(self).__name__} does not define version()")

    def check(self) -> None:
        """Raise `MissingDependency`, which says what to install, where the engine cannot run here."""

    def prepare(self, model: nn.Module, example: Example, *, threads: int = 1) -> Runner:
        """The model, in eval mode, ready to run on the example with so many threads; `model` is left as it was.

        Raises `MissingDependency`, `BadExample`, and `ExportError` where the engine needs an exporter that refuses.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define prepare(model, example, threads=)")

    def convert(self, model: nn.Module, example: Example) -> Callable[[int], Runner]:
        """As `prepare`, for several numbers of threads: what takes long and does not hang on them is done once."""
        return lambda threads: self.prepare(model, example, threads=threads)


ENGINES: Registry[Engine] = Registry("engine", __package__)
engine = ENGINES.register


def optional(library: str, extra: str) -> ModuleType:
    """The library, imported now. Raises `MissingDependency`."""
    try:
        return import_module(library)
    except (ImportError, RuntimeError) as error:  # a build for another torch or system raises a RuntimeError
        raise MissingDependency(
            f"{library} cannot be imported ({error}). Try: pip install 'secateur[{extra}]'."
        ) from error


def in_eval(model: nn.Module) -> nn.Module:
    """A copy in eval mode on the same parameters: they take no memory twice, and the model keeps its mode."""
    shared: dict[int, Any] = {id(p): p for p in model.parameters()}
    return copy.deepcopy(model, shared).eval()


def floats(output: Any) -> tuple[Tensor, ...]:
    """The float tensors that a model gives, without caches of keys and values."""
    return tuple(t for t in results(output) if t.is_floating_point())


class TorchRunner(Runner):
    """A callable of torch on the example; threads are those of the process, which `time_interleaved` sets."""

    def __init__(self, run: Callable[..., Any], example: Example) -> None:
        self._run = run
        self._args, self._kwargs = as_call(map_tensors(example, Tensor.detach))

    def __call__(self) -> None:
        """Run once."""
        with torch.inference_mode():
            self._run(*self._args, **self._kwargs)

    def outputs(self) -> tuple[Tensor, ...]:
        """What one run gives."""
        with torch.no_grad():  # what inference mode gives refuses to take part in much else
            return tuple(t.detach().clone() for t in floats(self._run(*self._args, **self._kwargs)))
