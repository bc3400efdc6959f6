"""The ledger: rows that stay, facts that must agree, writes that are few and whole."""

import pytest
import torch

from secateur import ledger as module
from secateur.errors import CheckpointError
from secateur.ledger import Ledger, read

FACTS = {"weights": "aa", "batches": "bb", "shape": (1, 2)}


def row(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_rows_are_there_again(tmp_path):
    path = tmp_path / "new" / "l.safetensors"
    with Ledger(path, "table", FACTS, 2) as ledger:
        assert ("a", "1") not in ledger
        ledger["a", "1"] = row(0.1 + 0.2, 3)
        ledger["b", ""] = row(5, 6)
    with Ledger(path, "table", FACTS, 2) as again:
        assert ("a", "1") in again
        assert torch.equal(again["a", "1"], row(0.1 + 0.2, 3))
        again["a", "2"] = row(7, 8)
    rows, facts = read(path, "table")
    assert list(rows) == [("a", "1"), ("b", ""), ("a", "2")]
    assert facts == {**FACTS, "shape": [1, 2]}


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Ledger(None, "table", FACTS, 1) as ledger:
        ledger["a", "1"] = row(1)
        assert ledger["a", "1"] == 1
    assert list(tmp_path.iterdir()) == []


def test_it_writes_at_once_every_few_seconds_and_at_the_end(tmp_path, monkeypatch):
    now, writes = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.files, "write", lambda path, kind, tensors, facts: writes.append(len(facts["keys"])))

    def work():
        with Ledger(tmp_path / "l.safetensors", "table", FACTS, 1) as ledger:
            for second in range(1, 13):
                now[0] = float(second)
                ledger["a", str(second)] = row(second)
            raise KeyError("interrupted")

    with pytest.raises(KeyError, match="interrupted"):
        work()
    assert writes == [0, 5, 10, 12]  # the last one because of the error


def test_what_differs_is_named_and_the_file_stays(tmp_path):
    path = tmp_path / "l.safetensors"
    with Ledger(path, "table", FACTS, 1) as ledger:
        ledger["a", "1"] = row(1)
    before = path.read_bytes()
    for facts, words in (
        ({**FACTS, "weights": "cc"}, "other weights than these"),
        ({**FACTS, "weights": "cc", "batches": "dd"}, "other weights and batches than these"),
        ({**FACTS, "loss": "new"}, "other loss than these"),
    ):
        with pytest.raises(CheckpointError, match=rf"l\.safetensors was measured on {words}"):
            Ledger(path, "table", facts, 1)
    with pytest.raises(CheckpointError, match="holds a table, not a list"):
        Ledger(path, "list", FACTS, 1)
    assert path.read_bytes() == before


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "l.safetensors"
    with Ledger(path, "table", FACTS, 1) as ledger:
        ledger["a", "1"] = row(1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Ledger(path, "table", FACTS, 1)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"), Ledger(tmp_path / "file" / "l", "table", FACTS, 1):
        pytest.fail("the work began")
