"""Shared by all tests: one thread, one seed, a cache of their own, and torchvision's two missing operator schemas."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)
CACHE = tempfile.TemporaryDirectory()  # measured latency goes here, not into the user's cache folder
os.environ["SECATEUR_CACHE"] = CACHE.name


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


@pytest.fixture(autouse=True)
def _seeded():
    # Weights that a test does not seed itself must not depend on which tests ran before it in the same process.
    torch.manual_seed(0)
