"""Documents of any content: the text, and what is said of what does not fit. Plan files test the rest."""

import json
from typing import ClassVar, Literal

import pytest
from pydantic import StrictInt

from secateur.errors import CheckpointError, PlanError
from secateur.groups.document import Document


class Note(Document):
    called: ClassVar[str] = "note"
    format: Literal["note 1"] = "note 1"
    table: dict[str, dict[str, StrictInt]]
    rows: tuple[StrictInt, ...] = ()


def test_a_line_for_each_entry_and_the_same_again(tmp_path):
    note = Note(table={"a.b": {"x": 1, "y": 2}, 'c"': {}}, rows=(1, 2))
    assert str(note) == (
        '{\n  "format": "note 1",\n  "table": {\n    "a.b": {"x": 1, "y": 2},\n    "c\\"": {}\n  },\n'
        '  "rows": [\n    1,\n    2\n  ]\n}\n'
    )
    assert json.loads(str(note)) == note.model_dump(mode="json")
    note.write(tmp_path / "note.json")
    assert Note.read(str(tmp_path / "note.json")) == note


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "no note can be made: table is missing"),
        ({"table": {"a.b": {"x": 1.5}}}, r"table\['a\.b'\]\.x=1\.5: "),
        ({"table": {"a": {"x": "much"}}}, r"table\.a\.x='much': "),
        ({"table": {}, "rows": [1, None]}, r"rows\[1\]=None: "),
        ({"table": {}, "more": 1}, "more=1: "),
        ({"table": {}, "format": "note 2"}, "format='note 2': "),
        (5, "no note can be made: 5: "),
    ],
)
def test_the_field_is_named(content, reason):
    with pytest.raises(PlanError, match=reason):
        Note.model_validate(content)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "note.json"
    path.write_text('{\n"table": {\n"a": oops}}')
    with pytest.raises(CheckpointError, match="line 3, column 6"):
        Note.read(path)
    path.write_text('{"table": {"a": {}, "b": {}, "a": {}}}')
    with pytest.raises(PlanError, match=r"note\.json: 'a' is there twice"):
        Note.read(path)
