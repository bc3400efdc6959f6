"""Eager gives what the model gives in eval mode, and leaves it as it was."""

import pytest
import torch
from engine_nets import cut, gap, wanted

from secateur.engines.eager import Eager


@pytest.mark.parametrize("name", ["digits", "vit", "gpt2"])
def test_it_says_what_the_model_says(name):
    model, example = cut(name)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with Eager().prepare(model, example) as runner:
        runner()
        assert gap(wanted(model, example), runner.outputs()) < 1e-6
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_no_gradients_are_kept():
    model, example = cut("digits")
    assert not Eager().prepare(model, example).outputs()[0].requires_grad
