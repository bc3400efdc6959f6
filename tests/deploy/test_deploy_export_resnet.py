"""A cut ResNet-50 leaves for torch.export and ONNX and says the same there."""

import pytest
import torch
import torchvision
from deploy_export import by_onnxruntime, exported, gap

import secateur
from nets import fill, images
from secateur.allocation.uniform import Uniform

X = images(2, 3, 64, 64)


@pytest.fixture(scope="module")
def small():
    with torch.device("meta"):
        model = torchvision.models.resnet50(weights=None, num_classes=10)
    model = fill(model.to_empty(device="cpu")).eval()
    return secateur.prune(model, X, allocator=Uniform(keep=0.25), verify="off").model.eval()


@pytest.fixture(scope="module")
def program(small):
    return exported(small, X)


def test_the_exported_program_says_the_same(small, program):
    with torch.no_grad():
        assert gap(small(X), program.module()(X)) < 1e-4
    kept = {k: tuple(v.shape) for k, v in program.state_dict.items()}
    assert kept == {k: tuple(v.shape) for k, v in small.state_dict().items()}
    assert kept["conv1.weight"] == (16, 3, 7, 7)


def test_onnxruntime_says_the_same(small, program):
    with torch.no_grad():
        wanted = small(X)
    (said,) = by_onnxruntime(program, X)
    assert gap(wanted, said) < 1e-4
