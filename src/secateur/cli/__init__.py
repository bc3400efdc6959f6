"""Floor 11: the command `secateur`. Commands import what is heavy when they run, so that help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Annotated

import typer

from ..errors import (
    BudgetUnreachable,
    CheckpointError,
    ExportError,
    NothingToDo,
    PlanError,
    SecateurError,
    StudyError,
    SurgeryError,
    TraceError,
    TrainingError,
    VerificationError,
)
from . import apply, bench, compare, diff, export, inspect, methods, oracle, plan, prune, report, sensitivity
from .output import complain

REFUSED = (
    BudgetUnreachable,
    ExportError,
    NothingToDo,
    PlanError,
    StudyError,
    SurgeryError,
    TraceError,
    TrainingError,
    VerificationError,
)
EPILOG = """Exit codes
0    done
1    a bug, or an error inside your own model: the traceback is shown
2    the command, or something it names, is wrong: an option, a budget, data
3    refused or failed, with the reason: a budget out of reach, a cut that
     is not exact, training that diverges, a run of a study
4    a file: missing, damaged, of another model, or it cannot be written
130  interrupted (Ctrl-C)

With --json, standard output holds one JSON document and nothing else;
messages go to standard error."""

app = typer.Typer(
    name="secateur",
    help="Prune any PyTorch model by published methods, to an exact budget, and prove that nothing else changed.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(name: str, command: Callable[..., None], epilog: str) -> None:
    """Enter a command; its docstring is the help, with each paragraph as one line for the terminal to break."""
    text = cleandoc(command.__doc__ or "")
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    app.command(name, help="\n\n".join(paragraphs), epilog=epilog)(command)


_add("inspect", inspect.inspect, inspect.EPILOG)
_add("prune", prune.prune, prune.EPILOG)
_add("plan", plan.plan, plan.EPILOG)
_add("diff", diff.diff, diff.EPILOG)
_add("apply", apply.apply, apply.EPILOG)
_add("compare", compare.compare, compare.EPILOG)
_add("report", report.report, report.EPILOG)
_add("oracle", oracle.oracle, oracle.EPILOG)
_add("sensitivity", sensitivity.sensitivity, sensitivity.EPILOG)
_add("bench", bench.bench, bench.EPILOG)
_add("export", export.export, export.EPILOG)
_add("methods", methods.methods, methods.EPILOG)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"secateur {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def exit_code(error: SecateurError) -> int:
    """4 for files, 3 for what was refused or failed, 2 for what was asked wrongly."""
    return 4 if isinstance(error, CheckpointError) else 3 if isinstance(error, REFUSED) else 2


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line (of this process, unless `argv` is given); ends by `SystemExit` with the exit code.

    The current folder is put first on the import path, so that `--model package.module:callable` finds what lies there.
    Exceptions that are not secateur's own come through with their traceback.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        app(args=argv, prog_name="secateur")
    except SecateurError as error:
        complain(error)
        sys.exit(exit_code(error))


__all__ = ["app", "exit_code", "main"]
