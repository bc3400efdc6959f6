import json
import os
import random
import resource

import pytest
import torch
from safetensors.torch import save_file

from secateur import files
from secateur.errors import CheckpointError

KIND = "test"
FACTS = {"step": 3, "history": [{"loss": 0.1 + 0.2, "metric": None}], "name": "é"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "run[1].safetensors"  # brackets mean something to glob


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def test_what_was_written_is_read_exactly(path):
    tensors = {
        "half": torch.randn(5).bfloat16(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "whole": torch.arange(4),
        "flag": torch.tensor([True, False]),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]).nan_to_num(nan=1e-45),
        "picture": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "part": torch.randn(4, 6).t()[1:3],
    }
    files.write(path, KIND, tensors, FACTS)
    read, facts = files.read(path, KIND)
    assert same(read, tensors)
    assert facts == FACTS


def test_one_tensor_under_two_names_is_stored_once(path):
    big = torch.randn(1000)
    tensors = {"a": big, "b": big, "view": big.view(10, 100), "none": torch.zeros(0), "void": torch.zeros(0)}
    files.write(path, KIND, tensors, {})
    assert same(files.read(path, KIND)[0], tensors)
    assert 8000 < path.stat().st_size < 10_000  # a (and b), and the view of another shape


def test_what_was_read_and_the_file_live_apart(path):
    files.write(path, KIND, {"a": torch.zeros(5000)}, {})
    before = path.read_bytes()
    read = files.read(path, KIND)[0]["a"]
    with path.open("r+b") as file:
        file.write(b"\xff" * len(before))
    assert torch.equal(read, torch.zeros(5000))
    path.write_bytes(before)
    files.read(path, KIND)[0]["a"].fill_(1)
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_the_file_before_it_and_no_litter(path):
    files.write(path, KIND, {"a": torch.zeros(10)}, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the system refuses in the middle, as a full disk does
    try:
        with pytest.raises(CheckpointError, match="run"):
            files.write(path, KIND, {"a": torch.zeros(100_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.read(path, KIND)[1] == {"step": 1}
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_no_space_left_at_the_last_moment(path, monkeypatch, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    files.write(path, KIND, {"a": torch.zeros(10)}, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(CheckpointError, match=r"No space left on device.*intact"):
            files.write(path, KIND, {"a": torch.zeros(10)}, {"step": 2})
    assert files.read(path, KIND)[1] == {"step": 1}
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be_made_is_a_checkpoint_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        files.write(tmp_path / "file" / "run", KIND, {}, {})


def test_what_killed_writes_left_is_removed_by_the_next_and_nothing_else(path):
    """Of this file, and of a neighbour whose writer is dead; a living writer's is its own."""
    files.write(path, KIND, {}, {"step": 1})
    nobody = 2**22 + 1  # above the largest number of a process
    leftovers = [path.with_name(f"{path.name}.123.tmp"), path.with_name(f"run1.safetensors.{nobody}.tmp")]
    others = [path.with_name(f"run1.safetensors.{os.getpid()}.tmp"), path.with_name("notes.txt")]
    for folder in [*leftovers, *others]:
        folder.mkdir()
        (folder / ".tmpAbCdEf").write_text("half")
    files.write(path, KIND, {}, {"step": 2})
    assert sorted(path.parent.iterdir()) == sorted([path, *others])


def test_every_damage_is_noticed_and_the_path_named(path):
    files.write(path, KIND, {"a": torch.randn(40), "b": torch.arange(3)}, FACTS)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(300):
        bit, end = rng.randrange(8 * len(whole)), rng.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        for damaged in (flipped, whole[:end]):
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"run\[1\].safetensors"):
                files.read(path, KIND)
    path.write_bytes(whole)
    assert files.read(path, KIND)[1] == FACTS


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read"):
        files.read(tmp_path / "missing", KIND)
    with pytest.raises(CheckpointError, match="cannot read"):
        files.read(tmp_path, KIND)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign", {"other": json.dumps({})})
    with pytest.raises(CheckpointError, match="foreign was not written by secateur"):
        files.read(tmp_path / "foreign", KIND)


def test_the_file_is_plain_safetensors(path):
    files.write(path, KIND, {"a": torch.zeros(1)}, FACTS)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size])["a"] == {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def test_a_file_of_another_kind_is_refused(path):
    files.write(path, "pruned model", {}, {})
    with pytest.raises(CheckpointError, match="holds a pruned model, not a test"):
        files.read(path, KIND)


def test_text_is_put_in_place_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "plan.json"
    files.write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "é\n"
    assert os.listdir(path.parent) == ["plan.json"]
