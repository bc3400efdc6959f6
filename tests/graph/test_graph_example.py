"""Example inputs as calls and as JSON."""

import json

import pytest
import torch

from secateur.errors import BadExample
from secateur.graph.example import as_call, call, from_json, map_tensors, tensors, to_json

X, Y = torch.ones(2, 3), torch.zeros(4, dtype=torch.long)


def test_calls():
    assert as_call(X) == ((X,), {})
    assert as_call((X, 3)) == ((X, 3), {})
    assert as_call([X, Y]) == ((X, Y), {})
    assert as_call({"x": X, "deep": [Y]}) == ((), {"x": X, "deep": [Y]})
    assert call(lambda a, *, b: (a, b), {"a": X, "b": 2}) == (X, 2)


@pytest.mark.parametrize("bad", [None, 3, "text", (), {}, (1, 2), {"x": None}, torch.Size([2])])
def test_refused(bad):
    with pytest.raises(BadExample):
        as_call(bad)


def test_nests():
    tree = (X, {"a": [Y, None, 2]}, "text")
    assert tensors(tree) == [X, Y]
    assert tensors(map_tensors(tree, lambda t: t + 1))[1].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "example", [X, (X, Y, None, 2, 1.5, "a", True), {"x": X, "deep": (Y, {"z": X.half()})}, [X, [Y]]]
)
def test_json_keeps_shapes_and_types(example):
    again = from_json(json.loads(json.dumps(to_json(example))))
    assert [(t.shape, t.dtype) for t in tensors(again)] == [(t.shape, t.dtype) for t in tensors(example)]
    if isinstance(example, tuple):
        assert again[2:] == example[2:]


def test_json_refuses_what_it_cannot_keep():
    with pytest.raises(BadExample, match="object"):
        to_json((X, object()))
