"""Classes of labels: what lives or dies together, once all equalities, products and freezes are known.

Of an axis seen as several (heads x head_dim) one part is cut and the others stay whole. Where a freeze leaves only one
part free there is no choice; else whole heads go before slices of every head, and where there are no heads the longer
part goes. Experts go only where nothing else can, or, if they are asked for, before all else.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .labels import Axis, Freeze, Labels, Product
from .record import are_experts

RANKED = 1 << 14  # a role told here alone: to be cut with experts, or to stay


class Solver:
    """Joins labels into classes, deciding for each product which part is cut."""

    def __init__(
        self,
        labels: Labels,
        preference: NDArray[np.int8],
        roles: NDArray[np.int16] | None = None,
        experts: bool = False,
    ) -> None:
        self._labels, self._preference, self._experts = labels, preference, experts
        self._roles = np.zeros(labels.count, dtype=np.int16) if roles is None else roles.astype(np.int16)
        for ranked in labels.ranks:
            self._roles[ranked.labels] |= RANKED
        self._rank, self._bits, self._mixed = preference, self._roles, False  # by class
        self.classes: Axis = np.arange(labels.count, dtype=np.int64)
        self._joined, self._frozen = 0, 0
        self._fixed: NDArray[np.bool_] = np.zeros(labels.count, dtype=bool)  # by class

    def solve(self) -> tuple[Axis, dict[int, Freeze]]:
        """Class of every label, (count,), and the first freeze that names each frozen class."""
        left = list(self._labels.products)
        while left:
            self._join()
            free = [(p, self._free(p)) for p in left]
            forced = [(p, parts) for p, parts in free if len(parts) <= 1]
            led = [(p, parts) for p, parts in free if any(self._chooses(p, j) for j in parts)]
            now = forced or led[:1] or free  # one by one, since others may be bound to go as the first does
            for p, parts in now:
                self._choose(p, parts)
            done = {id(p) for p, _ in now}
            left = [p for p in left if id(p) not in done]
        self._join()
        frozen: dict[int, Freeze] = {}
        for freeze in self._labels.freezes:
            for c in np.unique(self.classes[freeze.labels]).tolist():
                frozen.setdefault(c, freeze)
        return self.classes, frozen

    def _join(self) -> None:
        """Bring classes up to date with the ledger."""
        pairs = self._labels.pairs
        if len(pairs) > self._joined:
            count = int(self.classes.max()) + 1
            left, right = (np.concatenate([p[i] for p in pairs[self._joined :]]) for i in (0, 1))
            left, right = self.classes[left], self.classes[right]
            links = coo_matrix((np.ones(left.size, dtype=np.int8), (left, right)), shape=(count, count))
            _, joined = connected_components(links, directed=False)
            self.classes = joined.astype(np.int64)[self.classes]
            self._joined, self._frozen = len(pairs), 0
            self._fixed = np.zeros(int(self.classes.max()) + 1, dtype=bool)
            self._fixed[self.classes[0]] = True
            self._rank = np.zeros(self._fixed.size, dtype=np.int8)
            marked = np.flatnonzero(self._preference)
            np.maximum.at(self._rank, self.classes[marked], self._preference[marked])
            self._bits = np.zeros(self._fixed.size, dtype=np.int16)
            marked = np.flatnonzero(self._roles)
            np.bitwise_or.at(self._bits, self.classes[marked], self._roles[marked])
            self._mixed = bool(are_experts(self._bits).any() or (self._bits & RANKED).any())
        for freeze in self._labels.freezes[self._frozen :]:
            self._fixed[self.classes[freeze.labels]] = True
        self._frozen = len(self._labels.freezes)

    def _open(self, axis: Axis) -> NDArray[np.bool_]:
        """Which indices of an axis could be cut."""
        open_: NDArray[np.bool_] = (axis > 0) & ~self._fixed[self.classes[axis]]
        return open_

    def _free(self, product: Product) -> list[int]:
        """The parts of a product that could be cut, the preferred one first."""
        sizes = [p.size for p in product.parts]
        whole = self._open(product.whole).reshape(sizes)
        ranks = []
        for j, part in enumerate(product.parts):
            others = tuple(i for i in range(len(sizes)) if i != j)
            if (self._open(part) & whole.all(axis=others)).any():
                rank = int(self._rank[self.classes[part]].max())
                asked = self._chooses(product, j) == self._experts
                key = (part.size == 1, not self._alone(product, j), not asked, -rank, -part.size, j)
                ranks.append(key)  # of a single index nothing can be cut
        return [j for *_, j in sorted(ranks)]

    def _chooses(self, product: Product, j: int) -> bool:
        """Whether a part is of experts; or, if these are asked for, of what stays unless it goes with experts."""
        own = self._bits[self.classes[product.parts[j]]]
        ranked = bool((own & RANKED).any())
        if ranked and self._experts:
            ranked = bool(are_experts(self._bits[self.classes[product.whole]]).any())
        return ranked or bool(are_experts(own).any())

    def _alone(self, product: Product, j: int) -> bool:
        """Whether the axis is already known to run along this part and no other, in a model with experts."""
        if not self._mixed:
            return False
        whole = self.classes[product.whole].reshape([p.size for p in product.parts])
        return all(bool((whole == whole.take([0], axis=i)).all()) for i in range(whole.ndim) if i != j)

    def _choose(self, product: Product, parts: list[int]) -> None:
        """Cut the first of these parts, the others stay whole; without any the whole axis stays."""
        sizes = [p.size for p in product.parts]
        names = " x ".join(map(str, sizes))
        for j, part in enumerate(product.parts):
            if not parts or j != parts[0]:
                self._labels.freeze(part, f"one side of {names}, of which only another can be cut", product.path)
        if not parts:
            self._labels.freeze(product.whole, f"seen as {names}, of which no side can be cut", product.path)
            return
        chosen = parts[0]
        before, after = prod(sizes[:chosen]), prod(sizes[chosen + 1 :])
        tiled = np.tile(product.parts[chosen].repeat(after), before)
        self._labels.unify(product.whole, tiled, product.path)
