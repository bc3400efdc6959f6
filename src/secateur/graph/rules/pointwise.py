"""Element-wise ops that torch does not tag as such."""

from __future__ import annotations

from .base import pointwise, rule

rule("aten.hardswish", "aten.hardswish_", "aten._prelu_kernel", "aten.copy_", "aten.copy", "aten.where")(pointwise)
