"""Our models against closed forms and published counts; specs and weights against what they must refuse."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from secateur.errors import BadExample, BadModel, CheckpointError, UnknownName, WrongArchitecture
from secateur.experiments import models
from secateur.experiments.data import Data, Split
from secateur.experiments.data.cifar import MEAN, STD
from secateur.experiments.models.registry import entry
from secateur.experiments.models.resnet import PadShortcut


def macs(net, shape):
    with FlopCounterMode(display=False) as counter:
        net.eval()(torch.empty(1, *shape, device="meta"))
    return counter.get_total_flops() // 2


def params(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "expected_macs", "expected_params"),
    [
        ("resnet20", 40_551_040, 269_722),
        ("resnet56", 125_485_696, 853_018),
        ("resnet110", 252_887_680, 1_727_962),
        ("vgg16", 313_196_544 + 512 * 10, 14_724_042),
        ("vgg16-fc512", 313_196_544 + 512 * 512 + 512 * 10, 14_987_722),
    ],
)
def test_counts_are_the_published_ones(name, expected_macs, expected_params):
    with torch.device("meta"):
        net = models.build(name)
    assert macs(net, (3, 32, 32)) == expected_macs
    assert params(net) == expected_params


@pytest.mark.parametrize("name", sorted(models.models()))
def test_every_model_builds_runs_and_trains_every_parameter(name):
    channels, *_ = shape = entry(name).shape
    with torch.device("meta"):  # shapes and the flow of gradients need no arithmetic
        net = models.build(name, classes=7)
        logits = net(torch.randn(2, *shape))
        assert logits.shape == (2, 7)
        logits.square().sum().backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
        wider = models.build(name, in_channels=channels + 1)
    assert next(wider.parameters()).shape[1] == channels + 1


def test_resnet_names_its_parameters_as_the_pretrained_weights_do():
    names = set(dict(models.build("resnet32").named_parameters()))
    kinds = {"conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"}
    blocks = {f"layer{stage}.{block}.{kind}" for stage in (1, 2, 3) for block in range(5) for kind in kinds}
    assert names == blocks | {"conv1.weight", "bn1.weight", "bn1.bias", "linear.weight", "linear.bias"}


def test_pad_shortcut_subsamples_pads_and_obeys_its_attributes():
    x = torch.randn(2, 4, 6, 6)
    shortcut = PadShortcut(2, 1, 3)
    out = shortcut(x)
    assert out.shape == (2, 8, 3, 3)
    assert torch.equal(out[:, 1:5], x[:, :, ::2, ::2])
    assert not out[:, :1].any()
    assert not out[:, 5:].any()
    shortcut.before, shortcut.after = 0, 1
    assert torch.equal(shortcut(x)[:, :4], x[:, :, ::2, ::2])
    assert shortcut(x).shape == (2, 5, 3, 3)


def test_convolutions_start_at_the_fan_out_deviation():
    torch.manual_seed(0)
    weight = models.build("resnet20").layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_registry_refuses_unknown_taken_and_empty():
    with pytest.raises(UnknownName, match=r"no model 'resnet55'.*Did you mean 'resnet56'"):
        models.build("resnet55")
    with pytest.raises(BadModel, match="'resnet20' is registered already"):
        models.model("resnet20")(lambda **_: nn.Identity())
    with pytest.raises(BadModel, match="classes=0"):
        models.build("resnet20", classes=0)


@pytest.fixture
def weights(tmp_path):
    net = models.build("digits-vgg")
    state = {name: tensor + 1 for name, tensor in net.state_dict().items() if not name.endswith("tracked")}
    save_file(state, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors", state


def test_load_weights_loads_all_with_and_without_prefix(weights, tmp_path):
    path, state = weights
    save_file({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "parallel.safetensors")
    for file in (path, tmp_path / "parallel.safetensors"):
        net = models.resolve("digits-vgg", weights=file)
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in state.items())


def test_load_weights_keeps_a_prefix_that_is_the_models_own(weights):
    path, state = weights
    net = nn.Sequential()
    net.add_module("module", models.build("digits-vgg"))
    with pytest.raises(WrongArchitecture, match=r"module\.features\.0\.weight .* is not in"):
        models.load_weights(net, path)
    save_file({f"module.{name}": tensor for name, tensor in state.items()}, path)
    models.load_weights(net, path)
    assert torch.equal(net.module.classifier[0].bias, state["classifier.0.bias"])


def test_load_weights_names_the_first_mismatch_and_loads_nothing(weights):
    path, state = weights
    net = models.build("digits-vgg", classes=3)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WrongArchitecture, match=r"classifier\.0\.weight has shape \[10, 64\] in .* and \[3, 64\] in"):
        models.load_weights(net, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    save_file(state | {"extra": torch.zeros(2)}, path)
    with pytest.raises(WrongArchitecture, match=r"extra has shape \[2\] .* is not in the model"):
        models.load_weights(models.build("digits-vgg"), path)


def test_load_weights_takes_tied_parameters_once(tmp_path):
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    save_file({"0.weight": torch.eye(3)}, tmp_path / "tied.safetensors")
    with pytest.raises(WrongArchitecture, match=r"1\.weight .* is not in"):
        models.load_weights(net, tmp_path / "tied.safetensors")
    net[1].weight = net[0].weight
    models.load_weights(net, tmp_path / "tied.safetensors")
    assert torch.equal(net[1].weight, torch.eye(3))


def test_load_weights_refuses_missing_damaged_and_foreign_files(weights, tmp_path):
    path, _ = weights
    net = models.build("digits-vgg")
    with pytest.raises(CheckpointError, match=r"no weights file .*absent\.safetensors"):
        models.load_weights(net, tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match=r"net\.pth is not a \.safetensors file"):
        models.load_weights(net, tmp_path / "net.pth")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        models.load_weights(net, path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        models.load_weights(net, path)


@pytest.fixture
def own(tmp_path, monkeypatch):
    code = """from torch import nn
width = 3
def net(num_classes=2): return nn.Linear(4, num_classes)
def bare(): return nn.Linear(4, 2)
def text(): return "net"
"""
    (tmp_path / "own_nets.py").write_text(code)
    (tmp_path / "own_broken.py").write_text("import a_package_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_nets", None)


def test_resolve_calls_your_own_callable(own):
    assert models.resolve("own_nets:net").out_features == 2
    assert models.resolve("own_nets:net", classes=5).out_features == 5
    assert models.resolve("own_nets:bare").out_features == 2


@pytest.mark.parametrize(
    ("spec", "classes", "error", "message"),
    [
        ("vgg-16", None, UnknownName, "Did you mean 'vgg16'"),
        ("own_nets:nett", None, UnknownName, "callable in own_nets 'nett'.*Did you mean 'net'"),
        ("own_nets:width", None, BadModel, "own_nets:width is int, not a callable"),
        ("own_nets:text", None, BadModel, "own_nets:text returned str"),
        ("torch.nn:Linear", None, BadModel, "torch.nn:Linear cannot be called .*'in_features'"),
        ("torchvison:resnet18", None, BadModel, "no Python module 'torchvison'.*torchvision:NAME"),
        ("no.such.module:net", None, BadModel, "no Python module 'no.such.module'"),
        (":net", None, BadModel, "no Python module ''"),
        ("hf:/no/such/folder", None, CheckpointError, "no folder or file '/no/such/folder'"),
    ],
)
def test_resolve_refuses_by_name(own, spec, classes, error, message):
    with pytest.raises(error, match=message):
        models.resolve(spec, classes=classes)


def test_resolve_lets_an_error_inside_your_module_through(own):
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_absent"):
        models.resolve("own_broken:net")


@pytest.mark.parametrize(
    ("library", "extra", "spec"),
    [
        ("torchvision", "vision", "torchvision:resnet18"),
        ("timm", "vision", "timm:resnet18"),
        ("transformers", "language", "hf:."),
    ],
)
@pytest.mark.parametrize("ask", [models.resolve, models.example_for])
def test_a_missing_library_says_what_to_install(library, extra, spec, ask, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BadModel, match=rf"{library} cannot be imported.*pip install 'secateur\[{extra}\]'"):
        ask(spec)


@pytest.mark.parametrize("spec", ["torchvision:resnet18", "timm:resnet18"])
def test_a_torchvision_built_for_another_torch_is_named(spec, tmp_path, monkeypatch):
    """As where its compiled operations want CUDA and torch has none; timm imports it, too."""
    (tmp_path / "torchvision.py").write_text('raise RuntimeError("operator torchvision::nms does not exist\\nat x")')
    (tmp_path / "timm.py").write_text("import torchvision\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("torchvision", "timm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(BadModel) as raised:
        models.resolve(spec)
    told = str(raised.value)
    assert told.startswith(f"{spec.partition(':')[0]} cannot be imported: the compiled operations of torchvision")
    assert f"beside torch {version('torch')}: operator torchvision::nms does not exist)" in told
    assert "pip install --force-reinstall torch torchvision" in told
    assert "\n" not in told
    assert "secateur[" not in told


def test_a_library_that_does_not_load_is_not_said_to_be_missing(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text('raise ImportError("libfoo.so: cannot open shared object file")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(BadModel, match=r"timm cannot be imported: it is installed but does not load \(libfoo.* timm\."):
        models.resolve("timm:resnet18")


def test_resolve_builds_torchvision_models_without_a_network():
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        net = models.resolve("torchvision:resnet18", classes=5)
        segmenter = models.resolve("torchvision:lraspp_mobilenet_v3_large")
    assert net.fc.out_features == 5
    assert isinstance(segmenter, nn.Module)
    assert models.example_for("torchvision:resnet18").shape == (1, 3, 224, 224)
    assert models.example_for("torchvision:r3d_18").shape == (1, 3, 16, 224, 224)
    with pytest.raises(BadExample, match="retinanet_resnet50_fpn"):
        models.example_for("torchvision:retinanet_resnet50_fpn")
    with pytest.raises(UnknownName, match="Did you mean 'resnet18'"):
        models.resolve("torchvision:resnet19")


def test_resolve_builds_timm_models():
    pytest.importorskip("timm")
    with torch.device("meta"):
        assert models.resolve("timm:resnet18", classes=5).num_classes == 5
    assert models.example_for("timm:swinv2_tiny_window8_256").shape == (1, 3, 256, 256)
    with pytest.raises(UnknownName, match="Did you mean 'resnet18"):
        models.resolve("timm:resnet18x")


def test_resolve_builds_transformers_models_from_a_folder_or_its_config(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 31, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)
    config.save_pretrained(tmp_path)
    assert type(models.resolve(f"hf:{tmp_path}")).__name__ == "LlamaModel"
    saved = transformers.LlamaForCausalLM(config)
    saved.save_pretrained(tmp_path)
    loaded = models.resolve(f"hf:{tmp_path}")
    assert type(loaded) is type(saved)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in saved.state_dict().items())
    assert type(models.resolve(f"hf:{tmp_path / 'config.json'}")) is type(saved)
    example = models.example_for(f"hf:{tmp_path}")
    assert example["input_ids"].shape == (1, 16)
    assert loaded(**example).logits.shape == (1, 16, 31)


def test_resolve_refuses_pickled_and_unknown_transformers_folders(tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "image_size": 32, "num_channels": 1}))
    assert models.example_for(f"hf:{tmp_path}")["pixel_values"].shape == (1, 1, 32, 32)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"pickle \(\.bin\)"):
        models.resolve(f"hf:{tmp_path}")
    transformers.WhisperConfig().save_pretrained(tmp_path)
    with pytest.raises(BadExample, match="input_features"):
        models.example_for(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    with pytest.raises(CheckpointError, match="no configuration that transformers knows"):
        models.resolve(f"hf:{tmp_path}")


def test_examples_of_our_own_models_are_repeatable_and_leave_the_rng_alone():
    before = torch.get_rng_state()
    assert models.example_for("digits-vgg").shape == (1, 1, 8, 8)
    assert torch.equal(models.example_for("resnet56"), models.example_for("resnet56"))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(BadExample, match="own_nets:net"):
        models.example_for("own_nets:net")


@pytest.mark.skipif("SECATEUR_DATA" not in os.environ, reason="SECATEUR_DATA is not set")
def test_pretrained_resnet20_scores_what_was_published():
    folder = Path(os.environ["SECATEUR_DATA"])
    net = models.resolve("resnet20", weights=folder / "weights" / "cifar10_resnet20.safetensors").eval()
    stored = np.load(folder / "cifar10" / "test.npz")
    images = torch.from_numpy(stored["images"][:1000].transpose(0, 3, 1, 2))
    test = Split(images, torch.from_numpy(stored["labels"][:1000]).long())
    data = Data("cifar10", 10, (3, 32, 32), MEAN, STD, test, test)
    with torch.inference_mode():
        right = net(data.example(1000)).argmax(1) == test.y
    assert right.float().mean() > 0.88
