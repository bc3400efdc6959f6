"""Scores: one number per unit of each group, higher = keep."""

from __future__ import annotations

from torch import Tensor

Scores = dict[str, Tensor]  # group name -> (units,) float64 on the CPU
