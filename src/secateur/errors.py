"""Every error secateur raises on purpose.

SecateurError
├── TraceError              the model could not be read from one forward
├── UnknownName             a criterion, allocator, method, model, ... that does not exist (the nearest is named)
├── BadOption               a value that an option of a criterion, allocator or method cannot have
├── NeedsData               a criterion or method needs batches (and a loss), and none were given
├── BadExample              an input that is not a tensor, a tuple or a dict of keyword inputs, or holds no tensor
├── MissingDependency       an optional library or tool that is not installed; says how to get it
├── BadModel                the model itself cannot be worked on (NaN weights, two dtypes where one is needed, ...)
├── BudgetError
│   ├── BadBudget           a budget that no model could be asked to meet: 0, negative, NaN, no field
│   ├── BudgetUnreachable   below the least that the constraints allow; says the least
│   └── NothingToDo         the dense model meets the budget already
├── PlanError               a plan that does not fit this graph, or asks for units that do not exist
├── SurgeryError            an edit that cannot be made exactly; nothing was changed
├── ExportError             an exporter or compiler that refuses the model, or a file that says something else
├── VerificationError       the cut model differs from the masked original; nothing was changed
├── CheckpointError         a file that is missing, truncated, corrupted, foreign, or cannot be written
│   └── WrongArchitecture   a good file, but for another model; names the first mismatch
├── DataError               a data set that is missing or not in a known layout
├── TrainingError           a loss that is not finite, a recipe that makes no sense
└── StudyError              a study whose stored rows do not belong to the configuration asked for

SecateurWarning             work went on, and you should know this
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SecateurError(Exception):
    """The root of the tree: catch this to catch everything secateur refuses on purpose."""


class TraceError(SecateurError):
    """The model could not be read from one forward."""


class UnknownName(SecateurError):
    """A name that is not registered; the message names the nearest one and lists the rest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
        super().__init__(f"there is no {kind} {name!r}.{hint} Known: {shown or 'none'}.")


class BadOption(SecateurError):
    """A value that an option of a criterion, allocator or method cannot have."""


class NeedsData(SecateurError):
    """Batches (and a loss) are needed, and none were given."""


class BadExample(SecateurError):
    """The example input is not something a model can be called with."""


class BadModel(SecateurError):
    """The model itself cannot be worked on."""


class MissingDependency(SecateurError):
    """An optional library or tool is not installed; the message says how to get it."""


class BudgetError(SecateurError):
    """Something about the budget."""


class BadBudget(BudgetError):
    """A budget that makes no sense for any model."""


class BudgetUnreachable(BudgetError):
    """The budget lies below the least cost that the constraints allow; the message says the least."""


class NothingToDo(BudgetError):
    """The dense model meets the budget already."""


class PlanError(SecateurError):
    """The plan does not fit this graph."""


class SurgeryError(SecateurError):
    """An edit cannot be made exactly; nothing was changed."""


class ExportError(SecateurError):
    """An exporter or compiler refuses the model, or the exported file says something else than the model."""


class VerificationError(SecateurError):
    """The cut model differs from the masked original; nothing was changed."""


class CheckpointError(SecateurError):
    """A file is missing, truncated, corrupted, foreign, or cannot be written."""


class WrongArchitecture(CheckpointError):
    """The file is sound but belongs to another model; the message names the first mismatch."""


class DataError(SecateurError):
    """A data set is missing or not in a known layout."""


class TrainingError(SecateurError):
    """Training cannot start, or cannot go on."""


class StudyError(SecateurError):
    """The stored study and the configuration asked for do not belong together."""


class SecateurWarning(UserWarning):
    """Work went on, and you should know this."""
