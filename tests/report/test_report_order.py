"""The order of calls is that of the forward, and looking at it changes nothing."""

import torch
from report_nets import Residual, residual, tied

from secateur.report.order import first_calls


def test_modules_are_numbered_as_they_are_called_not_as_they_are_defined():
    calls = first_calls(tied())
    assert list(calls) == sorted(calls, key=calls.get)
    leaves = ["table", "blocks.0.norm", "blocks.0.up", "blocks.0.down", "blocks.1.norm", "head"]
    assert [calls[p] for p in leaves] == sorted(calls[p] for p in leaves)
    assert "blocks" not in calls, "a list is never called"


def test_the_model_is_left_as_it_was():
    graph = residual()
    model = graph.model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    first_calls(graph)
    assert model.training
    assert not model._forward_pre_hooks
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], t) and type(t) is torch.Tensor for n, t in model.state_dict().items())
    assert set(first_calls(graph)) == {n for n, _ in Residual().named_modules()}
