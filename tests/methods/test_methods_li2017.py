"""The published networks of Li et al. (ICLR 2017): widths and multiply-accumulates, to the unit."""

import pytest
import torch

import secateur
from counting import counted
from nets import fill
from secateur.cost.cost import CostModel
from secateur.errors import PlanError, UnknownName
from secateur.experiments.models import build
from secateur.methods.li2017 import CONFIGS, Predefined

# Network, MACs of its convolutions, MACs left; the published totals of the ResNets count the 640 of the linear layer.
GOLDEN = {
    "vgg16-a": ("vgg16", 313_196_544, 206_143_488),
    "resnet56-a": ("resnet56", 125_485_696 - 640, 112_435_840 - 640),
    "resnet56-b": ("resnet56", 125_485_696 - 640, 90_907_264 - 640),
    "resnet110-a": ("resnet110", 252_887_680 - 640, 212_779_648 - 640),
    "resnet110-b": ("resnet110", 252_887_680 - 640, 155_124_352 - 640),
}
WIDTHS = {
    "resnet56-a": ([14] * 7 + [16, 14], [32] + [28] * 8, [64] + [57] * 7 + [64]),
    "resnet56-b": ([6] * 7 + [16, 16], [32] + [22] * 6 + [32, 22], [64] + [57] * 7 + [64]),
    "resnet110-a": ([8] * 17 + [16], [32] * 18, [64] * 18),
    "resnet110-b": ([8] * 17 + [16], [32] + [19] * 17, [64] + [44] * 17),
}
IMAGENET = {  # widths, and the published drop of MACs in per cent, which leaves out projections and the classifier
    "resnet34-a": ([64, 44, 44], [128, 89, 89, 128], [256, 179, 179, 179, 179, 256], [512] * 3, 15.5),
    "resnet34-b": ([64, 32, 32], [128, 51, 51, 128], [256, 153, 153, 153, 153, 256], [512] * 3, 24.2),
}
VGG_WIDTHS = [32, 64, 128, 128, 256, 256, 256, 256, 256, 256, 256, 256, 256]


@pytest.fixture(scope="module")
def graphs():
    example = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {name: secateur.trace(fill(build(name)), example) for name in ("vgg16", "resnet56", "resnet110")}


@pytest.fixture(scope="module")
def pruned(graphs):
    """Cut without a budget: the configuration is the budget."""
    return {c: secateur.cut(graphs[net], Predefined(config=c).plan(graphs[net])) for c, (net, _, _) in GOLDEN.items()}


def test_every_configuration_is_held(pruned):
    assert set(CONFIGS) == set(GOLDEN) | set(IMAGENET)
    assert set(GOLDEN) == set(pruned)


@pytest.mark.parametrize("config", GOLDEN)
def test_multiply_accumulates_of_convolutions(config, graphs, pruned):
    net, dense, left = GOLDEN[config]
    cost = CostModel(graphs[net])
    assert cost.macs_by_kind({})["conv"] == dense
    assert cost.macs_by_kind(pruned[config].plan.widths(graphs[net]))["conv"] == left
    assert pruned[config].after == counted(pruned[config].model, graphs[net].example)


@pytest.mark.parametrize("config", GOLDEN)
def test_cuts_are_exact(config, pruned):
    assert pruned[config].check.max_error <= 1e-6


@pytest.mark.parametrize("config", WIDTHS)
def test_widths_of_the_first_convolution_of_each_block(config, pruned):
    model = pruned[config].model
    stages = [[block.conv1.out_channels for block in stage] for stage in (model.layer1, model.layer2, model.layer3)]
    assert tuple(stages) == WIDTHS[config]
    assert [b.conv2.out_channels for s in (model.layer1, model.layer2, model.layer3) for b in s] == [
        w for width, stage in zip((16, 32, 64), stages, strict=True) for w in [width] * len(stage)
    ]


def test_widths_of_vgg(pruned):
    convs = [m.out_channels for m in pruned["vgg16-a"].model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert convs == VGG_WIDTHS


def test_parameters_of_the_published_table(graphs, pruned):
    """The paper's drops in per cent: 9.4 and 13.7 (ResNet-56), 2.3 and 32.4 (ResNet-110); VGG has one linear layer."""
    drop = {c: 100 * (1 - p.after.params / p.before.params) for c, p in pruned.items()}
    assert {c: round(v, 1) for c, v in drop.items()} == {
        "vgg16-a": 64.3,
        "resnet56-a": 9.3,
        "resnet56-b": 13.8,
        "resnet110-a": 2.3,
        "resnet110-b": 32.4,
    }


def test_the_filters_of_largest_l1_norm_stay(graphs, pruned):
    weight = graphs["resnet56"].model.layer1[0].conv1.weight
    kept = pruned["resnet56-b"].plan.kept["layer1.0.conv1"].tolist()
    assert kept == sorted(weight.detach().abs().sum((1, 2, 3)).topk(6).indices.tolist())


def test_another_network_is_refused_by_name(graphs):
    with pytest.raises(PlanError, match="is for 55 convolutions, this network has 13"):
        Predefined().plan(graphs["vgg16"])
    with pytest.raises(UnknownName, match="'resnet56-b'"):
        Predefined(config="resnet56-c")


def test_a_budget_changes_nothing(graphs, pruned):
    for budget in (None, secateur.Budget(macs=0.01)):
        assert Predefined(config="resnet56-a").plan(graphs["resnet56"], budget) == pruned["resnet56-a"].plan


@pytest.fixture(scope="module")
def imagenet():
    import torchvision

    with torch.device("meta"):  # its own initialisation takes longer than what is tested
        model = torchvision.models.resnet34(weights=None)
    return secateur.trace(fill(model.to_empty(device="cpu")), torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize("config", IMAGENET)
def test_resnet_34(config, imagenet):
    """MACs to the unit, from the widths alone: 3x3 convolutions at 56, 28, 14 and 7, and what stays whole."""
    *stages, drop = IMAGENET[config]
    plan = Predefined(config=config).plan(imagenet)
    widths = plan.widths(imagenet)
    assert [[widths[f"layer{s}.{b}.conv1"] for b in range(len(w))] for s, w in enumerate(stages, 1)] == stages
    assert all(name.endswith("conv1") for name in plan.kept)

    def counted_by_hand(stages):
        total, before = 3 * 64 * 49 * 112**2, 64
        for width, side, first in zip((64, 128, 256, 512), (56, 28, 14, 7), stages, strict=True):
            for w in first:
                total, before = total + 9 * side**2 * (before * w + w * width), width
        return total

    whole = [[n] * len(w) for n, w in zip((64, 128, 256, 512), stages, strict=True)]
    dense, left = counted_by_hand(whole), counted_by_hand(stages)
    assert round(100 * (1 - left / dense), 1) == drop
    projections = sum(a * 2 * a * side**2 for a, side in ((64, 28), (128, 14), (256, 7)))
    cost = CostModel(imagenet)
    assert cost.macs_by_kind({})["conv"] == dense + projections
    assert cost.macs_by_kind(widths)["conv"] == left + projections
    params = 100 * (1 - cost.at(widths).params / cost.dense().params)
    assert round(params, 1) == {"resnet34-a": 7.6, "resnet34-b": 10.7}[config]
