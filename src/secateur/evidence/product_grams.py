"""Gram matrices of what each weight of a linear layer or convolution meets, in float64, over all rows.

Unlike `inputs_gram` it also has layers that no group can be cut at (the first, the last), convolutions with groups, and
every position: what single weights are pruned by must not depend on a draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Fields, collector
from .products import ByProduct, Product, by_weight


@collector("product_grams")
class ProductGrams(ByProduct):
    """Of each weight that multiplies: `gram` X^T X (groups, d, d), `count` of rows, and `columns`.

    `columns` broadcasts to the weight, and says which of the groups * d columns each weight multiplies.
    """

    def of(self, product: Product) -> Tensor:
        """(groups, d, d)."""
        total = torch.zeros((), dtype=torch.float64, device=product.x.device)
        for rows in product.rows():
            total = total + rows.mT @ rows
        return total

    def values(self) -> dict[str, Fields]:
        """By weight."""
        found: dict[str, Fields] = {}
        for name, (p, gram, count) in self.sums.items():
            columns = by_weight(torch.arange(gram.shape[0] * gram.shape[1]).reshape(gram.shape[:2]), p.shape, p.axes)
            found[name] = {"gram": gram.cpu(), "columns": columns.contiguous(), "count": torch.tensor(count)}
        return found
