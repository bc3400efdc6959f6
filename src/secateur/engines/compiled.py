"""Compile: the code that torch.compile writes for this machine, built by its C++ compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import ExportError, MissingDependency
from ..graph.example import Example
from .base import Engine, Runner, TorchRunner, engine, in_eval
from .export import reason


@engine("compile")
@dataclass(frozen=True)
class Compiled(Engine):
    """`torch.compile` with shapes fixed to those of the example. Making it ready takes from seconds to minutes."""

    def version(self) -> str:
        """Such as `torch 2.13.0`."""
        return f"torch {torch.__version__.partition('+')[0]}"

    def check(self) -> None:
        """Raise `MissingDependency` where there is no C++ compiler."""
        wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        if shutil.which(shlex.split(wanted)[0]) is None:
            raise MissingDependency(
                f"engine 'compile' needs a C++ compiler, and {wanted!r} is not on the PATH. "
                "Install g++ or clang++, or name yours in the variable CXX."
            )

    def prepare(self, model: nn.Module, example: Example, *, threads: int = 1) -> Runner:
        """Compiled now, for so many threads. Raises `ExportError` where torch.compile fails."""
        self.check()
        runner = TorchRunner(torch.compile(in_eval(model), dynamic=False), example)
        try:
            with torch_threads(threads):
                runner()
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ExportError(
                f"compile: torch.compile fails on {type(model).__name__}: {reason(error)}. Try engine 'eager'."
            ) from error
        return runner


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
