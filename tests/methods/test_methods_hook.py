import torch
from torch import nn

from secateur.methods.hook import Hook


def test_every_moment_is_optional_and_changes_nothing():
    model, hook = nn.Linear(3, 2), Hook()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hook.on_start(model)
    assert hook.penalty(model) is None
    hook.after_backward(model, 0.1)
    hook.after_step(model, 0.1)
    hook.after_epoch(model, 1)
    hook.load_state_dict({})
    assert hook.state_dict() == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
