"""The public zoo: 102 models of torchvision, timm and transformers by name, with random weights and an example input.

A decoder has a second row, "NAME+cache", in which it gives back its keys and values. Nothing is downloaded, and each
library is imported only when one of its models is built.
"""

from __future__ import annotations

from typing import Any

import small_transformers
import torch
from torch import nn

# name -> height and width of the input
TORCHVISION = {
    "convnext_tiny": 128,
    "efficientnet_b0": 128,
    "efficientnet_b1": 128,
    "efficientnet_v2_s": 128,
    "fcn_resnet50": 96,
    "lraspp_mobilenet_v3_large": 96,
    "mnasnet0_5": 128,
    "mnasnet1_0": 128,
    "mobilenet_v2": 128,
    "mobilenet_v3_large": 128,
    "r2plus1d_18": 56,
    "r3d_18": 56,
    "regnet_x_1_6gf": 128,
    "regnet_y_400mf": 128,
    "regnet_y_800mf": 128,
    "resnet18": 128,
    "resnet34": 128,
    "resnet50": 128,
    "shufflenet_v2_x0_5": 128,
    "shufflenet_v2_x1_0": 128,
    "swin_s": 64,
    "swin_t": 64,
    "vgg11_bn": 128,
    "vit_b_16": 224,
    "wide_resnet50_2": 128,
}
# The smallest inputs that run, from 64 on (below, the last maps are one pixel, where a kernel's rim is never seen);
# above 64 stands what the model is built for, or the least that its unpadded layers or its own configuration allow.
TIMM = {
    "beit_base_patch16_224": 224,
    "botnet26t_256": 256,
    "caformer_s18": 64,
    "cait_xxs24_224": 224,
    "convformer_s18": 64,
    "convit_tiny": 224,
    "convnextv2_atto": 64,
    "crossvit_tiny_240": 64,
    "cs3darknet_s": 64,
    "cspdarknet53": 64,
    "cspresnet50": 64,
    "darknet53": 64,
    "deit3_small_patch16_224": 224,
    "deit_tiny_patch16_224": 224,
    "dla34": 64,
    "ecaresnet26t": 64,
    "edgenext_xx_small": 64,
    "efficientformer_l1": 224,
    "efficientvit_b0": 64,
    "focalnet_tiny_srf": 64,
    "ghostnet_050": 64,
    "ghostnetv2_100": 64,
    "gmlp_ti16_224": 224,
    "halonet26t": 256,
    "hardcorenas_a": 64,
    "hgnetv2_b0": 64,
    "hiera_tiny_224": 224,
    "hrnet_w18_small": 64,
    "inception_next_atto": 64,
    "inception_resnet_v2": 96,
    "inception_v4": 96,
    "lambda_resnet26t": 128,
    "lcnetv2_small": 64,
    "mambaout_femto": 64,
    "mobilenetv4_conv_small": 64,
    "mobileone_s0": 64,
    "mobilevitv2_050": 64,
    "nfnet_l0": 64,
    "regnetz_005": 64,
    "repvgg_a0": 64,
    "res2net50_14w_8s": 64,
    "resnest14d": 64,
    "selecsls42": 64,
    "semnasnet_050": 64,
    "sequencer2d_s": 64,
    "starnet_s1": 64,
    "swiftformer_xs": 64,
    "swinv2_tiny_window8_256": 256,
    "tf_efficientnetv2_b0": 64,
    "tnt_s_patch16_224": 224,
    "twins_svt_small": 64,
    "visformer_tiny": 224,
    "vit_relpos_small_patch16_224": 224,
    "volo_d1_224": 224,
    "xception41": 64,
    "xcit_nano_12_p16_224": 64,
}
TRANSFORMERS = small_transformers.NAMES
CACHED = "+cache"
ROWS = (
    *TORCHVISION,
    *TIMM,
    *(row for n in TRANSFORMERS for row in ([n, n + CACHED] if n in small_transformers.DECODERS else [n])),
)

VIDEOS = ("r2plus1d_18", "r3d_18")  # 8 frames
_SCHEMAS: list[torch.library.Library] = []  # a library's definitions live as long as the object


def library(row: str) -> str:
    """ "torchvision", "timm" or "transformers". Raises KeyError for a row that is not in the zoo."""
    for name, rows in (("torchvision", TORCHVISION), ("timm", TIMM), ("transformers", TRANSFORMERS)):
        if row.removesuffix(CACHED) in rows:
            return name
    raise KeyError(f"{row!r} is not in the zoo; its rows are {', '.join(ROWS)}")


def build(row: str, seed: int = 0) -> nn.Module:
    """The model in eval mode, with the weights its library initialises; the RNG is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _BUILDERS[library(row)](row.removesuffix(CACHED)).eval()


def example(row: str, batch: int = 1, seed: int = 0) -> Any:
    """Its input: (batch, 3, H, H), (batch, 3, 8, 56, 56) for video, a dict of keyword inputs for transformers."""
    generator = torch.Generator().manual_seed(seed)
    if library(row) == "transformers":
        return small_transformers.example(row.removesuffix(CACHED), batch, generator, row.endswith(CACHED))
    size = TIMM.get(row) or TORCHVISION[row]
    shape = (3, 8, size, size) if row in VIDEOS else (3, size, size)
    return torch.randn(batch, *shape, generator=generator)


def define_schemas() -> None:
    """torchvision's compiled operators do not load beside a CPU torch; its models need only the schemas."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        _SCHEMAS.append(torch.library.Library("torchvision", "DEF"))
        _SCHEMAS[-1].define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _SCHEMAS[-1].define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _torchvision(name: str) -> nn.Module:
    define_schemas()
    import torchvision

    options = {"weights_backbone": None} if name in ("fcn_resnet50", "lraspp_mobilenet_v3_large") else {}
    return torchvision.models.get_model(name, weights=None, **options)


def _timm(name: str) -> nn.Module:
    define_schemas()
    import timm

    return timm.create_model(name, pretrained=False)


def _transformers(name: str) -> nn.Module:
    define_schemas()  # transformers imports torchvision for its image models
    return small_transformers.build(name)


_BUILDERS = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}
