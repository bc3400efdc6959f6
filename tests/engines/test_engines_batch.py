"""Examples of another batch size, or of other values."""

import pytest
import torch

from secateur.engines.batch import batch_size, other_values, with_batch
from secateur.errors import BadExample

EXAMPLE = {"x": torch.arange(6.0).reshape(2, 3), "ids": torch.tensor([[1, 2], [3, 4]]), "cache": False}


def test_rows_are_repeated_or_left_out():
    assert batch_size(EXAMPLE) == 2
    five = with_batch(EXAMPLE, 5)
    assert five["ids"].tolist() == [[1, 2], [3, 4], [1, 2], [3, 4], [1, 2]]
    assert (five["x"].shape, five["cache"]) == ((5, 3), False)
    assert torch.equal(with_batch(EXAMPLE["x"], 1), EXAMPLE["x"][:1])
    assert with_batch((EXAMPLE["x"], EXAMPLE["ids"]), 3)[1].shape == (3, 2)


@pytest.mark.parametrize("example", [(torch.ones(2, 3), torch.ones(3, 3)), (torch.ones(2), torch.tensor(1.0))])
def test_no_batch_in_common(example):
    with pytest.raises(BadExample, match="no batch size in common"):
        with_batch(example, 4)


def test_no_rows():
    with pytest.raises(BadExample, match="batch 0"):
        with_batch(EXAMPLE, 0)


def test_other_values_stay_what_an_embedding_takes():
    other = other_values(EXAMPLE)
    assert sorted(other["ids"].flatten().tolist()) == [1, 2, 3, 4]
    assert not torch.equal(other["x"], EXAMPLE["x"])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.equal(other_values({"mask": mask})["mask"], mask)
    assert (other["x"].shape, other["x"].dtype, other["cache"]) == ((2, 3), torch.float32, False)
    assert torch.equal(other_values(EXAMPLE)["x"], other["x"])
    assert not torch.equal(other_values(EXAMPLE, seed=1)["x"], other["x"])
