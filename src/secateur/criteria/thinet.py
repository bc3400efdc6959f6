"""ThiNet. Luo, Wu, Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", ICCV 2017
(1707.06342), sec. 3.2.

Claim: the channels that go are those whose summed contribution to what the next layer gives is smallest, found greedily
one by one; that layer's own output, not the filters, says which. Departures: the paper draws one filter and one place
at random for each sample, here all outputs at each sampled place count; of several readers each counts by its relative
error; what other groups bring to a reader is left as it is. The paper then scales each kept channel by least squares,
as `methods.layerwise.layerwise(criterion="thinet", refit="scale")` does; `repair="reconstruct"` refits every weight of
the reader, which holds that fit.

Scores are the relative error of the readers once a unit and all with lower scores are gone and nothing is refitted:
one scale for all groups, a fraction of what their readers give.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..evidence.contributions import problem, rising, thinet_greedy
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("thinet")
@dataclass(frozen=True)
class ThiNet(Criterion):
    """s_k = |sum over removed j of x_j W_j|^2 / |y|^2 of the readers when k goes, removed greedily, the least first."""

    needs = frozenset({"weights", "inputs_gram"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = problem(group, evidence, intercept=False)
        return rising(*thinet_greedy(found.between.sum(0), found.lacks.sum(0), found.error))
