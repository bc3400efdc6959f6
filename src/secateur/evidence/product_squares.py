"""Norms of what each weight of a linear layer or convolution meets: a sum of squares for each column of inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Fields, collector
from .products import ByProduct, Product, by_weight


@collector("product_squares")
class ProductSquares(ByProduct):
    """Of each weight that multiplies: `square`, the sum over rows of what it meets squared; `count` of rows.

    `square` broadcasts to the weight: of a linear layer (1, I), of a convolution (1, I, *kernel), with groups
    (O, I / groups, *kernel). All uses of a weight count.
    """

    def of(self, product: Product) -> Tensor:
        """(groups, d)."""
        return product.squares()

    def values(self) -> dict[str, Fields]:
        """By weight."""
        return {
            name: {"square": by_weight(s, p.shape, p.axes).cpu(), "count": torch.tensor(count)}
            for name, (p, s, count) in self.sums.items()
        }
