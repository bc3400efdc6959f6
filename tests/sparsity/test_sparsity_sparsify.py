"""The verb: exact counts, nothing of the caller's touched, refusals by name."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from sparsity_cases import layer, noise
from torch import nn

import secateur
from held import assert_unchanged, batches, same_weights
from held import loss as any_loss
from nets import ALL, HAND, fresh
from secateur import Pattern
from secateur.errors import BadModel, BadOption, NeedsData, UnknownName
from secateur.sparsity.base import WeightCriterion
from secateur.sparsity.synflow import SynFlow

NAMES = sorted(secateur.weight_criteria())
PLAIN = ALL["plain"].example


def data(name):
    return batches(ALL[name].example)


@pytest.mark.parametrize("name", sorted(HAND))
@pytest.mark.parametrize("scope", ["global", "layer", "row"])
def test_exactly_so_many_zeros_in_every_kind_of_net(name, scope):
    model = fresh(name)
    with assert_unchanged(model):
        found = secateur.sparsify(model, ALL[name].example, sparsity="1/3", scope=scope)
    if scope == "global":
        size = sum(c.size for c in found.counts.values())
        assert sum(c.zeros for c in found.counts.values()) == size // 3
    for n, mask in found.masks.items():
        weight, before = found.model.get_parameter(n), model.get_parameter(n)
        assert torch.equal(weight, before * mask)
        assert (weight.dtype, weight.requires_grad) == (before.dtype, before.requires_grad)
        if scope == "layer":
            assert int((~mask).sum()) == mask.numel() // 3
        if scope == "row":
            matrix = found.layouts[n].matrix(mask)
            assert (~matrix).sum(1).tolist() == [matrix.shape[1] // 3] * len(matrix)
    others = {n: p for n, p in model.state_dict().items() if n not in found.masks}
    assert all(torch.equal(found.model.state_dict()[n], p) for n, p in others.items() if n not in _aliases(model))


def _aliases(model):
    held = {id(p): n for n, p in model.named_parameters()}
    return {n for n, p in model.named_parameters(remove_duplicate=False) if held[id(p)] != n}


@pytest.mark.parametrize("criterion", NAMES)
@pytest.mark.parametrize("name", ["plain", "depthwise", "tied"])
def test_every_criterion_leaves_the_callers_alone_and_repeats_itself(name, criterion):
    model = fresh(name)
    criterion = SynFlow(rounds=3) if criterion == "synflow" else criterion
    options = {"criterion": criterion, "sparsity": 0.5, "batches": data(name), "loss": any_loss}
    with assert_unchanged(model):
        first = secateur.sparsify(model, ALL[name].example, **options)
    again = secateur.sparsify(model, ALL[name].example, **options)
    assert same_weights(first.model, again.model)
    assert first.masks.keys() == again.masks.keys()
    for n, mask in first.masks.items():
        weight = first.model.get_parameter(n)
        assert not weight[~mask].any()
        assert torch.isfinite(weight).all()


def test_one_layer_and_its_pattern():
    model = secateur.sparsify(layer(noise(4, 8)), noise(2, 8), pattern=Pattern(keep=2, of=4))
    assert (model.masks["weight"].unflatten(1, (2, 4)).sum(2) == 2).all()
    assert str(model).startswith("16 of 32 weights zero (0.5) in 1 layers, by magnitude: 2 of every 4 inputs kept")


def test_runs_lie_along_the_inputs_of_the_product():
    """Of x @ w as of F.linear, and of a convolution along channels and in each along the kernel."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(noise(8, 4))

        def forward(self, x):
            return x @ self.w

    found = secateur.sparsify(Product(), noise(2, 8), pattern=Pattern(keep=1, of=4))
    assert (found.masks["w"].unflatten(0, (2, 4)).sum(1) == 1).all()
    assert not (found.masks["w"].sum(1) == 1).all()
    conv = nn.Conv2d(4, 3, 2)
    found = secateur.sparsify(conv, torch.randn(1, 4, 5, 5), pattern=Pattern(keep=2, of=4))
    assert (found.masks["weight"].flatten(2).sum(2) == 2).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model, x = fresh("mlp").to(dtype), ALL["mlp"].example.to(dtype)
    for criterion in ("magnitude", "wanda", "sparsegpt", "obs", "snip", "obd", SynFlow(rounds=3)):
        options = {"batches": [(x, torch.zeros(len(x), dtype=torch.long))], "loss": F.cross_entropy}
        found = secateur.sparsify(model, x, criterion=criterion, sparsity=0.5, **options)
        for n, mask in found.masks.items():
            weight = found.model.get_parameter(n)
            assert weight.dtype == dtype
            assert not weight[~mask].any()


def test_tied_weights_are_masked_once():
    found = secateur.sparsify(fresh("tied"), ALL["tied"].example, sparsity=0.5)
    assert list(found.counts) == ["a.weight", "b.weight", "d.weight"]
    assert found.model.b.weight is found.model.c.weight
    assert int((found.model.c.weight == 0).sum()) == 32


def test_a_pruned_model_is_made_sparse_and_a_sparse_one_sparser():
    small = secateur.prune(fresh("plain"), PLAIN, budget=secateur.Budget(macs=0.5))
    first = secateur.sparsify(small, PLAIN, sparsity=0.3)
    assert first.origin is small.origin
    second = secateur.sparsify(first, PLAIN, sparsity=0.6, exclude="head")
    assert second.origin is first.origin
    for n, c in second.counts.items():
        assert c.zeros == int((0.3 if "head" in n else 0.6) * c.size + 1e-9)
        assert not second.masks[n][~first.masks[n]].any()
    lower = secateur.sparsify(second, PLAIN, sparsity=0.1)
    assert lower.counts == second.counts  # what is zero stays so
    one = secateur.sparsify(first, PLAIN, sparsity=0.6, scope="global")
    assert sum(c.zeros for c in one.counts.values()) == int(0.6 * sum(c.size for c in one.counts.values()))


def test_which_layers():
    found = secateur.sparsify(
        fresh("plain"), PLAIN, sparsity=0.5, include=["two", "head"], exclude="head.linear.weight"
    )
    assert list(found.masks) == ["two.0.weight"]
    assert found.left["head.linear.weight"] == "exclude='head.linear.weight'"
    assert found.left["one.0.weight"] == "it is not included"
    assert "no linear layer or convolution" in found.left["one.1.bias"]


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({}, BadOption, "how many weights go"),
        ({"scope": "row"}, BadOption, "how many weights go"),
        ({"sparsity": 0}, BadOption, "sparsity=0"),
        ({"sparsity": 50}, BadOption, "50 % are"),
        ({"sparsity": 0.5, "pattern": Pattern(keep=2, of=4)}, BadOption, "say it once"),
        ({"scope": "row", "pattern": Pattern(keep=2, of=4)}, BadOption, "say it once"),
        ({"sparsity": 0.5, "scope": "rows"}, BadOption, "scope='rows'"),
        ({"sparsity": 0.5, "criterion": "magnitud"}, UnknownName, "no weight criterion 'magnitud'.*'magnitude'"),
        ({"sparsity": 0.5, "exclude": "hed"}, UnknownName, "'hed'"),
        ({"sparsity": 0.5, "criterion": "snip"}, NeedsData, "weight_gradients"),
        (
            {"pattern": Pattern(keep=2, of=4)},
            BadModel,
            r"runs of 4.*'one\.0\.weight' has 9 inputs, 'head\.linear\.weight' has 6 inputs.*exclude=\['one",
        ),
    ],
)
def test_refused_before_anything_changed(options, error, reason):
    model = fresh("plain")
    with assert_unchanged(model), pytest.raises(error, match=reason):
        secateur.sparsify(model, PLAIN, **options)


def test_a_criterion_without_evidence_names_the_weight():
    model = fresh("transposed")
    with (
        assert_unchanged(model),
        pytest.raises(BadModel, match=r"'up\.weight' has no product_squares.*exclude='up\.weight'"),
    ):
        secateur.sparsify(model, PLAIN, criterion="wanda", sparsity=0.5, batches=data("transposed"))
    found = secateur.sparsify(
        model, PLAIN, criterion="wanda", sparsity=0.5, batches=data("transposed"), exclude=["up", "two"]
    )
    assert set(found.masks) == {"one.0.weight", "head.linear.weight"}


@dataclass(frozen=True)
class Broken(WeightCriterion):
    def score(self, name, evidence):
        return evidence.weight(name) / 0 * 0


@dataclass(frozen=True)
class Signed(WeightCriterion):
    """The most negative go."""

    def score(self, name, evidence):
        return evidence.weight(name)


def test_criteria_of_ones_own():
    with pytest.raises(BadModel, match="scores of weight 'weight' are not finite"):
        secateur.sparsify(layer(noise(3, 4)), noise(1, 4), criterion=Broken(), sparsity=0.5)
    found = secateur.sparsify(layer(noise(3, 4)), noise(1, 4), criterion=Signed(), sparsity=0.5)
    assert found.how == "Signed: 0.5 of each layer zero"
    assert noise(3, 4)[~found.masks["weight"]].max() < noise(3, 4)[found.masks["weight"]].min()


def test_a_model_without_numbers_or_weights():
    with torch.device("meta"):
        model = nn.Linear(4, 3)
    with pytest.raises(BadModel, match="meta device"):
        secateur.sparsify(model, torch.zeros(1, 4, device="meta"), sparsity=0.5)
    with pytest.raises(BadModel, match="no weight of the model is left"):
        secateur.sparsify(nn.Sequential(nn.BatchNorm1d(4)), torch.zeros(2, 4), sparsity=0.5)


def test_weights_in_inference_mode():
    with torch.inference_mode():
        model = nn.Linear(4, 3)
    found = secateur.sparsify(model, torch.randn(2, 4), sparsity=0.5)
    assert int((found.model.weight == 0).sum()) == 6
