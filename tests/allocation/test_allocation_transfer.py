"""Design transfer: ratios computed by hand, carried to other depths, sizes and networks."""

from fractions import Fraction
from functools import cache

import pytest
import torch

import secateur
from secateur.allocation.transfer import Design, Part, fraction, parts_of
from secateur.allocation.uniform import Uniform
from secateur.errors import CheckpointError, PlanError, UnknownName
from secateur.experiments.models import build
from secateur.experiments.models.vgg import POOL, VGG
from secateur.groups.plan import Drop, Plan
from secateur.testing.allocator import random_scores

VGG19 = (64, 64, POOL, 128, 128, POOL, *[256] * 4, POOL, *[512] * 4, POOL, *[512] * 4)


@cache
def graph(name, size=32):
    net = VGG(VGG19, 100, 3) if name == "vgg19" else build(name)
    if name == "vgg16" and size != 32:
        net.pool = torch.nn.AdaptiveAvgPool2d(1)
    return secateur.trace(net, torch.zeros(1, 3, size, size))


def keeping(g, widths):
    return Plan.keeping(g, {name: range(n) for name, n in widths.items()})


def widths(g, design, **options):
    """What the uniform allocator makes of it, as (stage, size of the group, kept)."""
    plan = secateur.allocate(g, random_scores(g), allocator=Uniform(keep=design.keep(g, **options)))
    left = plan.widths(g)
    return {(s, x.size, left[x.name]) for s, groups in parts_of(g, "stage").items() for x in groups}


@cache
def resnet20():
    kept = {"layer1.0.conv1": 4, "layer1.1.conv1": 8, "layer1.2.conv1": 12}  # with conv1's 16: 40 of 64
    kept |= {"layer2.0.conv1": 20, "layer2.1.conv1": 8, "layer2.2.conv1": 12}  # with 16 padded ones: 56 of 112
    kept |= {"layer3.1.conv1": 10, "layer3.2.conv1": 9}  # with 64, and 32 padded ones: 115 of 224
    return Design.of(graph("resnet20"), keeping(graph("resnet20"), kept))


def test_stages_of_resnet20():
    assert resnet20().parts == {
        "channel 32x32": Part(groups=4, width=16, units=64, keep=40),
        "channel 16x16": Part(groups=4, width=32, units=112, keep=56),
        "channel 8x8": Part(groups=4, width=64, units=224, keep=115),
    }


@pytest.mark.parametrize("match", ["name", "width", "order"])
def test_ratios_from_resnet20_to_resnet56(match):
    """16 * 5/8 = 10; halves of 32 and 16; 64 * 115/224 = 32.86 and 32 * 115/224 = 16.43."""
    assert widths(graph("resnet56"), resnet20(), match=match) == {
        ("channel 32x32", 16, 10),
        ("channel 16x16", 32, 16),
        ("channel 16x16", 16, 8),
        ("channel 8x8", 64, 33),
        ("channel 8x8", 32, 16),
    }


def test_mean_widths_from_resnet20_to_resnet56():
    """40/4 = 10; 56/4 = 14; 115/4 = 28.75."""
    assert widths(graph("resnet56"), resnet20(), form="width") == {
        ("channel 32x32", 16, 10),
        ("channel 16x16", 32, 14),
        ("channel 16x16", 16, 14),
        ("channel 8x8", 64, 29),
        ("channel 8x8", 32, 29),
    }


@cache
def vgg16():
    kept = {"features.0": 48, "features.7": 100, "features.10": 101}  # 112 of 128 with features.3; 201 of 256
    kept |= {"features.24": 3, "features.27": 100, "features.30": 50}  # 153 of 1536
    kept |= {"features.34": 1, "features.37": 1, "features.40": 1}  # 3 of 1536
    return Design.of(graph("vgg16"), keeping(graph("vgg16"), kept))


def test_ratios_from_vgg16_to_vgg19_which_is_cut_by_them():
    """64 * 7/8 = 56; 128 * 201/256 = 100.5, halves up; 512 * 153/1536 = 51; 512 * 3/1536 = 1."""
    g = graph("vgg19")
    assert widths(g, vgg16()) == {
        ("channel 32x32", 64, 56),
        ("channel 16x16", 128, 101),
        ("channel 8x8", 256, 256),
        ("channel 4x4", 512, 51),
        ("channel 2x2", 512, 1),
    }
    pruned = secateur.prune(g.model, g.example, allocator=Uniform(keep=vgg16().keep(g)))
    assert [m.out_channels for m in pruned.model.features if isinstance(m, torch.nn.Conv2d)] == [
        *[56] * 2, *[101] * 2, *[256] * 4, *[51] * 4, *[1] * 4
    ]  # fmt: skip


def test_another_size_of_image_needs_a_match():
    large = graph("vgg16", 64)
    with pytest.raises(
        PlanError, match=r"stage 'channel 64x64' of the model has no partner in the design, which has '"
    ):
        vgg16().keep(large)
    by_order = vgg16().keep(large, match="order")
    assert by_order["features.0"] == 0.875
    stages = {f"channel {2 * s}x{2 * s}": f"channel {s}x{s}" for s in (32, 16, 8, 4, 2)}
    assert vgg16().keep(large, match=stages) == by_order
    left_out = vgg16().keep(large, match=stages | {"channel 64x64": None})
    assert left_out == {g: f for g, f in by_order.items() if g not in ("features.0", "features.3")}
    with pytest.raises(PlanError, match="'channel 8x8' of the model is 512 wide, as 'channel 4x4', 'channel 2x2'"):
        vgg16().keep(large, match="width")


def test_what_has_no_partner_is_named():
    with pytest.raises(PlanError, match="'channel 4x4' of the model has no partner"):
        resnet20().keep(graph("vgg16"))
    with pytest.raises(PlanError, match=r"the model has 5 stages .* and the design 3 .*do not pair off"):
        resnet20().keep(graph("vgg16"), match="order")
    with pytest.raises(PlanError, match="'channel 16x16' of the model has no partner"):
        resnet20().keep(graph("vgg16"), match="width")  # 128 wide, as no stage of ours; 64 is
    with pytest.raises(UnknownName, match="stage of the design called 'channel 9x9'"):
        resnet20().keep(graph("resnet56"), match={"channel 8x8": "channel 9x9"})
    with pytest.raises(UnknownName, match="stage of the model called 'channel 9x9'"):
        resnet20().keep(graph("resnet56"), match={"channel 9x9": "channel 8x8"})
    with pytest.raises(UnknownName, match="Did you mean 'order'"):
        resnet20().keep(graph("resnet56"), match="ordre")
    with pytest.raises(UnknownName, match="Did you mean 'ratio'"):
        resnet20().keep(graph("resnet56"), form="ratios")


def test_a_width_that_does_not_fit_is_named():
    with pytest.raises(PlanError, match="'channel 32x32' of the design keeps 56 units, and group 'conv1' has 16"):
        vgg16().keep(
            graph("resnet20"), form="width", match={f"channel {s}x{s}": f"channel {s}x{s}" for s in (32, 16, 8)}
        )


def test_by_layer_to_another_data_set():
    """The same network for other classes and images: layer by layer."""
    g = graph("resnet20")
    design = Design.of(g, keeping(g, {"layer1.0.conv1": 5, "conv1": 3}), by="layer")
    assert design.parts["layer1.0.conv1"] == Part(groups=1, width=16, units=16, keep=5)
    other = secateur.trace(build("resnet20", classes=100, in_channels=1), torch.zeros(1, 1, 40, 40))
    plan = secateur.allocate(other, random_scores(other), allocator=Uniform(keep=design.keep(other)))
    assert plan.widths(other) == {x.name: x.size for x in g.groups} | {"layer1.0.conv1": 5, "conv1": 3}
    with pytest.raises(PlanError, match=r"layer 'layer1\.3\.conv1' of the model has no partner"):
        design.keep(graph("resnet56"))


def test_fractions_give_whole_widths_back():
    for size in range(1, 80):
        for width in range(1, size + 1):
            found = fraction(width, size)
            assert found <= 1
            assert int(Fraction(str(found)) * size) == width


def test_there_and_back(tmp_path):
    design = Design.of(graph("resnet20"), Plan(), about={"data": "cifar10"})
    design.write(tmp_path / "design.json")
    assert Design.read(tmp_path / "design.json") == design
    text = (tmp_path / "design.json").read_text()
    assert '    "channel 32x32": {"groups": 4, "width": 16, "units": 64, "keep": 64}' in text
    (tmp_path / "design.json").write_text(text.replace('"keep": 64}', '"keep": 65}', 1))
    with pytest.raises(
        PlanError, match=r"design\.json: no design can be made: parts\['channel 32x32'\]: keep=65 of 64"
    ):
        Design.read(tmp_path / "design.json")
    with pytest.raises(CheckpointError):
        Design.read(tmp_path / "none.json")


def test_blocks_have_no_width():
    g = secateur.trace(build("resnet20"), torch.zeros(1, 3, 32, 32), kinds=("channel", "depth"))
    with pytest.raises(PlanError, match=r"drops the block 'layer1\.1'"):
        Design.of(g, Plan(edits=(Drop(block="layer1.1"),)))
    assert Design.of(g, Plan()).parts["channel 32x32"].units == 64
    with pytest.raises(UnknownName, match="part of a design 'stages'"):
        Design.of(g, Plan(), by="stages")
