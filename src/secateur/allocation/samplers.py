"""Where the numbers of a random search come from: our own generator, or Optuna's samplers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependency

Sampler = Literal["random", "tpe", "cmaes"]
LIBRARIES: dict[Sampler, tuple[str, ...]] = {"random": (), "tpe": ("optuna",), "cmaes": ("optuna", "cmaes")}
Trial = Callable[[NDArray[np.float64]], float]  # (count,) numbers from 0 to 1 -> lower is better


def drawn(sampler: Sampler, trial: Trial, count: int, trials: int, seed: int) -> None:
    """Call `trial` so many times. Neither the global generator nor Optuna's logging is left changed.

    Raises `MissingDependency` where a library is not installed.
    """
    if sampler == "random":
        rng = np.random.default_rng(seed)
        for _ in range(trials):
            trial(rng.random(count))
    else:
        _asked(sampler, trial, count, trials, seed)


def _asked(sampler: Sampler, trial: Trial, count: int, trials: int, seed: int) -> None:
    for library in LIBRARIES[sampler]:
        if find_spec(library) is None:
            raise MissingDependency(
                f"sampler={sampler!r} needs {library}, which is not installed: pip install {library}; "
                "sampler='random' does without"
            )
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        kind = optuna.samplers.TPESampler if sampler == "tpe" else optuna.samplers.CmaEsSampler
        study = optuna.create_study(sampler=kind(seed=seed))
        for _ in range(trials):
            asked = study.ask()
            numbers = [asked.suggest_float(str(i), 0.0, 1.0) for i in range(count)]
            study.tell(asked, trial(np.array(numbers)))
    finally:
        optuna.logging.set_verbosity(before)
