"""The command as a whole: help, exit codes, the import path, and a real process."""

import subprocess
import sys
from pathlib import Path

import pytest

import secateur as package
from secateur import cli, errors
from secateur.cli import (
    apply,
    bench,
    compare,
    diff,
    exit_code,
    export,
    inspect,
    main,
    methods,
    oracle,
    plan,
    prune,
    report,
    sensitivity,
)

COMMANDS = {"inspect": inspect, "prune": prune, "compare": compare, "report": report, "methods": methods}
COMMANDS |= {"apply": apply, "diff": diff, "plan": plan}
COMMANDS |= {"bench": bench, "export": export, "oracle": oracle, "sensitivity": sensitivity}


def tree(kind):
    return [kind, *(grandchild for child in kind.__subclasses__() for grandchild in tree(child))]


def test_every_error_has_a_documented_exit_code():
    refused = (
        "TraceError PlanError SurgeryError VerificationError TrainingError StudyError BudgetUnreachable NothingToDo "
        "ExportError"
    )
    expected = dict.fromkeys(refused.split(), 3) | {"CheckpointError": 4, "WrongArchitecture": 4}
    own = [kind for kind in tree(errors.SecateurError) if kind.__module__ == errors.__name__]
    assert len(own) > 15
    for kind in own:
        assert exit_code(kind.__new__(kind)) == expected.get(kind.__name__, 2), kind
    for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "130"):
        assert f"\n{code}" in cli.EPILOG


@pytest.mark.parametrize("kind", [errors.BadBudget, errors.StudyError, errors.CheckpointError])
def test_an_error_is_one_line_without_a_traceback(kind, secateur, monkeypatch):
    def fails():
        raise kind("what [bold]is[/bold] wrong " + "very " * 40)

    monkeypatch.setattr("secateur.cli.methods.catalogue", fails)
    code, out, err = secateur("methods")
    assert (code, out) == (exit_code(kind("")), "")
    assert err.startswith(f"error: {kind.__name__}: what [bold]is[/bold] wrong very")
    assert err.count("\n") == 1


def test_other_exceptions_keep_their_traceback(monkeypatch):
    def fails():
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("secateur.cli.methods.catalogue", fails)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["methods"])


@pytest.mark.parametrize("words", [["inspct"], ["inspect"], ["prune", "--budjet", "macs=0.5"], ["methods", "more"]])
def test_wrong_words_are_code_2_on_standard_error(words, secateur):
    code, out, err = secateur(*words)
    assert (code, out) == (2, "")
    assert "Usage: secateur" in err


def test_version(secateur):
    assert secateur("--version") == (0, f"secateur {package.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_each_option_is(name, secateur):
    code, out, err = secateur(name, "--help")
    assert (code, err) == (0, "")
    assert f"$ secateur {name}" in out or name == "methods"
    assert len(out.split()) > 60


def test_help_lists_commands_and_exit_codes(secateur):
    out = secateur("-h").out
    assert all(name in out for name in (*COMMANDS, "Exit codes", "interrupted (Ctrl-C)"))


@pytest.mark.parametrize("text", [cli.EPILOG, *(module.EPILOG for module in COMMANDS.values())])
def test_no_example_breaks_in_80_columns(text):
    assert max(map(len, text.splitlines())) <= 78


def test_the_command_imports_nothing_heavy_before_it_runs():
    folder = Path(package.__file__).parent
    script = (
        "import sys, types; bare = types.ModuleType('secateur'); bare.__path__ = [sys.argv[1]]\n"
        "sys.modules['secateur'] = bare\n"
        "import secateur.cli; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_real_process():
    command = [sys.executable, "-m", "secateur", "inspect", "--model", "resnet57"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: UnknownName: there is no model 'resnet57'. Did you mean 'resnet56'?")
    assert "Traceback" not in done.stderr
