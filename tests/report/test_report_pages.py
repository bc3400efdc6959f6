"""Pages are put in place whole, and templates hide nothing."""

import jinja2
import pytest

from secateur.errors import CheckpointError
from secateur.report.pages import environment, replace


def test_text_is_escaped_and_missing_names_are_errors():
    template = environment().from_string("{{ a }}")
    assert template.render(a="<b>") == "&lt;b&gt;"
    with pytest.raises(jinja2.UndefinedError):
        template.render()


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    page = tmp_path / "page.html"
    replace(page, "old")
    assert page.read_text() == "old"
    with pytest.raises(CheckpointError, match="cannot write"):
        replace(page / "inside.html", "new")
    assert page.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
