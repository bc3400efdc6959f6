"""Shared by all tests: one thread each, and torchvision's two missing operator schemas on CPU builds."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)


def _define_torchvision_schemas():
    # torchvision's compiled operators do not load beside a CPU torch; its models need only the schemas.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    TORCHVISION_SCHEMAS = _define_torchvision_schemas()
