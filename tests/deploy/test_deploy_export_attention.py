"""Cut transformers leave for torch.export and ONNX and say the same there, at the widths that are left."""

import copy

import pytest
import torch
from deploy_export import by_onnxruntime, exported, gap
from deploy_models import HOW, cut, fresh, words
from torchvision.models import VisionTransformer

import secateur
from nets import fill, images

X = images(2, 3, 32, 32)
WORDS = {"input_ids": words(2, 6)}


def vit():
    """Image 32, patches of 8, width 48, 4 heads."""
    made = VisionTransformer(32, 8, num_layers=2, num_heads=4, hidden_dim=48, mlp_dim=96, num_classes=10)
    return fill(made).eval()


def gpt2():
    return fresh("gpt2", n_embd=48, use_cache=False).eval()


def first(output):
    return output if isinstance(output, torch.Tensor) else output.logits


CASES = {"vit": (vit, X), "gpt2": (gpt2, WORDS)}


@pytest.fixture(scope="module", params=[(name, how) for name in CASES for how in HOW], ids=" ".join)
def case(request):
    name, how = request.param
    build, example = CASES[name]
    model = secateur.prune(build(), example, **HOW[how]).model.eval()
    with torch.no_grad():
        wanted = first(model(**example) if isinstance(example, dict) else model(example))
    return exported(model, example), example, wanted, model


def test_the_exported_program_says_the_same(case):
    program, example, wanted, model = case
    with torch.no_grad():
        said = first(program.module()(**example) if isinstance(example, dict) else program.module()(example))
    assert gap(wanted, said) < 1e-4
    stored = {k: tuple(v.shape) for k, v in model.named_parameters(remove_duplicate=False)}
    assert {k: tuple(v.shape) for k, v in program.named_parameters()} == stored  # a tied weight has two names there


def test_onnxruntime_says_the_same(case):
    program, example, wanted, _ = case
    assert gap(wanted, by_onnxruntime(program, example)[0]) < 1e-4


def test_a_program_of_any_batch_and_length():
    """The cut wrote no batch size or length into the model."""
    model = copy.deepcopy(cut("gpt2", "ranked").model).eval()
    shapes = {"input_ids": {0: torch.export.Dim("batch", max=8), 1: torch.export.Dim("length", max=32)}}
    given = {"input_ids": words(3, 7)}
    program = exported(model, given | {"use_cache": False}, dynamic_shapes=shapes | {"use_cache": None})
    for batch, length in ((2, 5), (4, 11)):
        ids = words(batch, length)
        with torch.no_grad():
            said = program.module()(input_ids=ids, use_cache=False).logits
            assert gap(model(ids).logits, said) < 1e-4


def test_a_cut_of_images_takes_any_batch():
    model = secateur.prune(vit(), X, **HOW["ranked"]).model
    program = exported(model, X, dynamic_shapes=({0: torch.export.Dim("batch", max=16)},))
    with torch.no_grad():
        assert gap(model(images(5, 3, 32, 32)), program.module()(images(5, 3, 32, 32))) < 1e-4
