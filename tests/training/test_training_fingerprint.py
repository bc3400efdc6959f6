import functools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from secateur.errors import CheckpointError
from secateur.training import Loader
from secateur.training.fingerprint import describe, describe_loader, refuse_other


@dataclass(frozen=True)
class Fixed:
    strength: float = 0.1
    name: str = "a"
    needs: frozenset = frozenset({"gradients", "weights"})
    inner: object = None


@dataclass
class Changing:
    count: int = 0


def test_descriptions_hold_what_reads_the_same_in_every_process():
    assert describe(None) == {"name": None}
    assert describe(F.cross_entropy) == {"name": "cross_entropy"}
    assert describe(functools.partial(F.cross_entropy, label_smoothing=0.1)) == {"name": "partial", "values": {}}
    assert describe(Fixed(inner=object())) == {"name": "Fixed", "values": {"strength": 0.1, "name": "a"}}
    assert describe(Changing(3)) == describe(Changing(4)) == {"name": "Changing", "values": {}}
    assert describe(torch.nn.ReLU()) == {"name": "ReLU", "values": {}}


def test_a_loader_is_described_by_all_that_decides_its_batches():
    x = torch.zeros(20, 1)
    base = {"batch_size": 5, "seed": 0}
    changes = [{"batch_size": 4}, {"seed": 1}, {"shuffle": False}, {"drop_last": True}, {"transform": torch.neg}]
    changes += [{}, {"augment": lambda x, g: x}]
    texts = [json.dumps(describe_loader(Loader(x, x, **(base | change)))) for change in changes]
    texts.append(json.dumps(describe_loader(Loader(x[1:], x[1:], **base))))
    assert len(set(texts)) == len(texts)


def test_what_differs_is_named():
    path = Path("run.safetensors")
    stored = json.loads(json.dumps({"seed": 0, "pair": (1, 2)}))
    refuse_other({"seed": 0, "pair": (1, 2)}, stored, path)
    with pytest.raises(CheckpointError, match=r"run.safetensors .* seed is 0 in the file and 1 here. Choose another"):
        refuse_other({"seed": 1, "pair": (1, 2)}, stored, path)
    with pytest.raises(CheckpointError, match="new is None in the file"):
        refuse_other(stored | {"new": 3}, stored, path)
