"""Where output goes."""

import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from secateur.cli import output


def test_only_json_sends_everything_else_to_standard_error(capfd):
    with output.only_json(True):
        print("a library prints")
        os.write(1, b"so does a C extension\n")
        subprocess.run([sys.executable, "-c", "print('and a worker')"], check=True)
    output.emit({"a": [1, None]})
    out, err = capfd.readouterr()
    assert json.loads(out) == {"a": [1, None]}
    assert {"a library prints", "so does a C extension", "and a worker"} == set(err.split("\n")) - {""}


def test_only_json_puts_standard_output_back_after_an_error(capfd):
    with pytest.raises(KeyError), output.only_json(True):
        raise KeyError
    os.write(1, b"here again")
    assert capfd.readouterr().out == "here again"


def test_only_json_not_wanted_changes_nothing(capfd):
    with output.only_json(False):
        print("seen")
    assert capfd.readouterr().out == "seen\n"


def test_no_number_that_json_does_not_know():
    with pytest.raises(ValueError, match="Out of range"):
        output.emit({"accuracy": float("nan")})


@pytest.mark.parametrize(("width", "broken"), [(120, False), (30, True)])
def test_names_are_whole_where_there_is_room_and_figures_always(width, broken):
    out = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    name, figure = "encoder.layer.0.attention", "123456789"
    table = output.plain_table("group", "other", "figure", numbers=("figure",))
    output.whole(table, [name], out)
    output.row(table, name, "another.long.name", figure)
    out.print(table)
    text = out.export_text()
    assert (name not in text) == broken
    assert figure in text


def test_brackets_in_names_are_text(capfd):
    output.note("the file [red]x[/red].safetensors")
    assert capfd.readouterr().err == "note: the file [red]x[/red].safetensors\n"
