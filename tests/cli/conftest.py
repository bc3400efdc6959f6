"""The command line in this process: its exit code, and what it wrote where."""

import sys
from typing import NamedTuple

import pytest

from secateur.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def secateur(capfd, monkeypatch, tmp_path):
    """Runs `secateur ARGUMENTS` in a folder of its own; the terminal is 100 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*argv):
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in argv])
        return Outcome(end.value.code or 0, *capfd.readouterr())

    return run
