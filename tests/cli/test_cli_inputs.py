"""From what was typed to objects."""

import pytest
import torch
import typer
from torch import nn

from secateur.allocation.base import ALLOCATORS
from secateur.allocation.ranked import Ranked
from secateur.cli import inputs
from secateur.errors import BadExample, UnknownName
from secateur.methods.base import METHODS
from secateur.methods.slimming import Slimming


def test_shapes():
    image, again, tokens = (inputs.read_input(text) for text in ("2,3,8,8", "2,3,8,8", "1,16:int64"))
    assert (image.shape, image.dtype) == ((2, 3, 8, 8), torch.float32)
    assert torch.equal(image, again)
    assert (tokens.shape, tokens.dtype) == ((1, 16), torch.int64)


@pytest.mark.parametrize("text", ["", "1,x", "1,3,8,8:float99", "1,0", "3x8"])
def test_wrong_shapes_are_quoted(text):
    with pytest.raises(typer.BadParameter, match=f"'{text}'"):
        inputs.read_input(text)


def test_specs_with_options():
    assert inputs.made(ALLOCATORS, "ranked:per_macs=0.5,min_keep=4", "--allocator") == Ranked(0.5, min_keep=4)
    made = inputs.made(METHODS, "slimming:penalty_weight=1e-3,proximal=true", "--method")
    assert made == Slimming(penalty_weight=0.001, proximal=True)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("rankd", UnknownName, "no allocator 'rankd'.*'ranked'"),
        ("ranked:per=1", UnknownName, "option of allocator 'ranked' called 'per'.*'per_macs'"),
        ("ranked:per_macs=low", typer.BadParameter, "per_macs='low'.*number"),
        ("ranked:min_keep=many", typer.BadParameter, "min_keep='many'"),
        ("ranked:keep", typer.BadParameter, "'keep' in 'ranked:keep'"),
    ],
)
def test_wrong_specs_are_refused(text, error, message):
    with pytest.raises(error, match=message):
        inputs.made(ALLOCATORS, text, "--allocator")


def test_a_shape_that_the_forward_refuses_is_said_in_one_line():
    with pytest.raises(BadExample, match=r"input of shape \[1, 5\].*--input") as caught:
        inputs.graph_of(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 5), None)
    assert "\n" not in str(caught.value)


def test_a_bug_in_the_users_forward_is_theirs_to_see():
    class Broken(nn.Module):
        def forward(self, x):
            return self.nothing(x)

    with pytest.raises(AttributeError, match="nothing"):
        inputs.graph_of(Broken(), torch.zeros(1, 5), None)


def test_random_weights_follow_from_the_seed_alone():
    one, other, again = (inputs.model_of("digits-resnet", None, None, seed).conv1.weight for seed in (0, 1, 0))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
