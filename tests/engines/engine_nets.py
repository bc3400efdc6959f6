"""Small cut models of three shapes, and what to call them with: each made once, and not to be changed."""

from functools import cache

import torch
import transformers
from torchvision.models import VisionTransformer

import secateur
from nets import fill, images
from secateur.engines.base import floats
from secateur.experiments.models import example_for, resolve
from secateur.graph.example import call

WORDS = 37


def gpt2():
    """It also gives its cache, which no engine but torch can."""
    ends = {"eos_token_id": None, "bos_token_id": None}
    shape = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **ends))


def vit():
    return VisionTransformer(32, 8, num_layers=1, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10)


def words(batch=2):
    """Keywords in another order than the forward's, with padding."""
    ids = torch.randint(WORDS, (batch, 6), generator=torch.Generator().manual_seed(1))
    return {"attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]] * batch), "input_ids": ids}


@cache
def cut(name):
    """The model cut to other widths in each layer, in training mode, and its example."""
    build, example = {
        "digits": (lambda: resolve("digits-resnet"), example_for("digits-resnet").repeat(2, 1, 1, 1)),
        "vit": (vit, images(2, 3, 32, 32)),
        "gpt2": (gpt2, words()),
    }[name]
    net = fill(build()).train()
    return secateur.prune(net, example, budget=secateur.Budget(params=0.6)).model, example


def wanted(model, example):
    """What the model says in eval mode; the model's mode stays."""
    was = model.training
    with torch.no_grad():
        said = floats(call(model.eval(), example))
    model.train(was)
    return said


def gap(expected, said):
    """The largest difference as a part of the largest value."""
    assert [t.shape for t in expected] == [t.shape for t in said]
    scale = max(t.abs().max() for t in expected)
    assert scale > 1e-3
    return max(((a - b).abs().max() / scale).item() for a, b in zip(expected, said, strict=True))
