"""Pages say what is true: their code runs, tables are those of the registries, versions agree, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import secateur

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"])


def code(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", [p for p in PAGES if code(p)], ids=lambda p: p.name)
def test_code_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch, capsys):
    from secateur.criteria.base import CRITERIA
    from secateur.methods.base import METHODS

    monkeypatch.chdir(tmp_path)
    # What a page registers is gone after it.
    monkeypatch.setattr(CRITERIA, "_classes", dict(CRITERIA.all()))
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.all()))
    names = {"__name__": "__main__"}
    for block in code(page):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing


def test_generated_pages_are_up_to_date():
    result = subprocess.run([sys.executable, ROOT / "scripts" / "docs.py", "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_version_agrees_with_changelog_and_metadata():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    metadata = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    assert secateur.__version__ == newest == metadata


def test_commands_on_the_pages_name_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        assert set(re.findall(r"^make ([a-z-]+)", page.read_text(), re.M)) <= targets


def test_every_criterion_and_method_has_a_first_line_and_a_source():
    for kind in (secateur.criteria(), secateur.weight_criteria(), secateur.methods(), secateur.allocators()):
        for name, cls in kind.items():
            assert (cls.__doc__ or "").strip(), name
            assert (sys.modules[cls.__module__].__doc__ or "").strip(), name
