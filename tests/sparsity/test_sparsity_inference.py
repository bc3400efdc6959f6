"""Compressed rows stand where they were measured to be faster, and nowhere else; what was measured is told."""

import copy
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sparsity_cases import noise
from torch import nn

import secateur
import secateur.sparsity.inference as module
from held import assert_unchanged
from secateur.errors import BadModel, BadOption, SecateurWarning, VerificationError
from secateur.sparsity.compressed import CompressedLinear
from secateur.sparsity.inference import Inference, inference, restore


class Net(nn.Module):
    """A layer that is called twice, one that is not, one that shares its weight, one with a hook, one without zeros."""

    def __init__(self):
        super().__init__()
        self.twice, self.last, self.unused = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(4, 4)
        self.embed, self.tied = nn.Embedding(8, 8), nn.Linear(8, 8, bias=False)
        self.tied.weight = self.embed.weight
        self.hooked, self.full = nn.Linear(8, 8), nn.Linear(8, 8)
        self.hooked.register_forward_hook(lambda module, args, out: out * 2)
        with torch.no_grad():
            for layer in (self.twice, self.last, self.unused, self.embed, self.hooked):
                layer.weight.masked_fill_(noise(*layer.weight.shape, seed=2) > -0.5, 0)

    def forward(self, x):
        return self.full(self.hooked(self.tied(self.last(self.twice(self.twice(x).relu()).relu()))))


@pytest.fixture
def seconds(monkeypatch):
    """Times that a test sets: (dense, scipy, torch) by number of outputs, all samples alike."""
    told = {}

    def samples(ways, repeats):
        for way in ways:
            way()
        return np.tile(told[ways[0].args[0].out_features], (repeats, 1))

    monkeypatch.setattr(module, "samples", samples)
    return told


def test_only_layers_that_win_are_replaced_and_by_the_fastest_kernel(seconds):
    seconds |= {16: (3e-3, 2e-3, 1e-3), 8: (1e-3, 2e-3, 3e-3)}
    net, x = Net(), noise(5, 16).float()
    with assert_unchanged(net):
        found = inference(net, x)
    assert found.replaced == ("twice",)
    assert isinstance(found.model.twice, CompressedLinear)
    assert int(found.model.twice.kernel) == 1
    assert type(found.model.last) is nn.Linear
    torch.testing.assert_close(found.model(x), net.eval()(x))
    assert 0 <= found.error < 1e-6
    assert not found.model.training
    assert not found.model(x).requires_grad
    with pytest.raises(BadModel, match="'twice'"):
        found.model(noise(5, 16).float().requires_grad_())
    with pytest.raises(BadModel, match="'twice'"):
        found.model.train()(x)


def test_the_report_says_what_was_measured_and_what_was_not(seconds):
    seconds |= {16: (3e-3, 2e-3, 1e-3), 8: (1e-3, 2e-3, 3e-3)}
    found = inference(Net(), noise(5, 16).float())
    twice = found.layers["twice"]
    assert (twice.batch, twice.chosen) == (10, "torch")
    assert (twice.dense_ms, twice.sparse_ms) == (3.0, {"scipy": 2.0, "torch": 1.0})
    assert found.layers["last"].won == {"scipy": 0.0, "torch": 0.0}
    assert found.left == {
        "unused": "the example does not reach it",
        "tied": "its weight is shared",
        "hooked": "it has hooks",
        "full": "it has no zeros",
    }
    text = str(found)
    assert "1 of 6 linear layers as compressed rows, 1 threads" in text
    assert "torch, 3.00 times as fast" in text
    assert "stays dense" in text
    assert "tied: not measured, its weight is shared" in text


def test_faster_in_the_median_alone_is_not_enough(monkeypatch):
    """A kernel that loses more than one sample in four stays out."""
    taken = np.array([[2.0, 1.0, 9.0], [2.0, 1.0, 9.0], [2.0, 3.0, 9.0]])
    monkeypatch.setattr(module, "samples", lambda ways, repeats: taken)
    with pytest.warns(SecateurWarning, match="no linear layer is faster"):
        assert inference(Net(), noise(5, 16).float()).replaced == ()
    taken[2, 1] = 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inference(Net(), noise(5, 16).float()).replaced == ("twice", "last")


def test_where_nothing_wins_the_model_is_the_dense_one_and_that_is_said(seconds):
    seconds |= {16: (1e-3, 2e-3, 3e-3), 8: (1e-3, 2e-3, 3e-3)}
    net, x = Net().eval(), noise(5, 16).float()
    with pytest.warns(SecateurWarning, match="2 measured.*dense"):
        found = inference(net, x)
    assert torch.equal(found.model(x), net(x))
    assert [type(m) for m in found.model.modules()] == [type(m) for m in net.modules()]


def test_real_times_of_a_layer_that_is_all_but_empty():
    """One weight in a thousand is left of a large layer: any machine is faster with three of a thousand rows' work."""
    layer = nn.Linear(1024, 1024)
    with torch.no_grad():
        layer.weight.masked_fill_(torch.rand(layer.weight.shape) < 0.999, 0)
    x = noise(4, 1024).float()
    found = inference(layer, x, repeats=5)
    assert isinstance(found, Inference)
    assert found.replaced == ("",)
    best = found.layers[""]
    assert best.sparse_ms[best.chosen] < best.dense_ms
    torch.testing.assert_close(found.model(x), layer(x).detach(), atol=1e-5, rtol=1e-5)


def test_threads_are_put_back(seconds):
    seconds |= {16: (3e-3, 2e-3, 1e-3), 8: (1e-3, 2e-3, 3e-3)}
    before = torch.get_num_threads()
    assert inference(Net(), noise(5, 16).float(), threads=2).threads == 2
    assert torch.get_num_threads() == before


def test_a_sparse_and_its_file(seconds, tmp_path):
    """What `sparsify` gives, as compressed rows, through a file of plain tensors, into a fresh dense model."""
    seconds |= {16: (3e-3, 2e-3, 1e-3), 8: (3e-3, 1e-3, 2e-3)}
    net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    x = noise(5, 16).float()
    sparse = secateur.sparsify(net, x, sparsity=0.8)
    found = inference(sparse, x)
    assert found.replaced == ("0", "2")
    assert found.layers["0"].sparsity == pytest.approx(0.8, abs=0.01)
    save_file(found.model.state_dict(), tmp_path / "rows.safetensors")
    fresh = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    with assert_unchanged(fresh):
        again = restore(fresh, load_file(tmp_path / "rows.safetensors"))
    assert torch.equal(again(x), found.model(x))
    assert repr(again) == repr(found.model)


def test_outputs_that_differ_are_refused(seconds, monkeypatch):
    seconds |= {16: (3e-3, 2e-3, 1e-3), 8: (1e-3, 2e-3, 3e-3)}
    right = CompressedLinear.forward
    monkeypatch.setattr(CompressedLinear, "forward", lambda self, x: right(self, x) * 1.01)
    with pytest.raises(VerificationError, match="differ by"):
        inference(Net(), noise(5, 16).float())


@pytest.mark.parametrize(
    ("options", "reason"), [({"threads": 0}, "threads=0"), ({"repeats": 0}, "repeats=0"), ({"threads": True}, "True")]
)
def test_options_that_make_no_sense(options, reason):
    with pytest.raises(BadOption, match=reason):
        inference(Net(), noise(5, 16).float(), **options)


def test_a_model_without_weights_is_refused():
    with pytest.raises(BadModel):
        inference(copy.deepcopy(Net()).to("meta"), noise(5, 16).float())
