"""The order of groups: as layers run."""

import pytest
import torch
from torch import nn

import secateur
from nets import graph
from secateur.methods.order import in_order


class Shuffled(nn.Module):
    """A residual stream, whose layers are registered in another order than they run."""

    def __init__(self):
        super().__init__()
        self.head, self.inner2, self.outer2 = nn.Linear(8, 3), nn.Linear(8, 6), nn.Linear(6, 8)
        self.outer1, self.stem, self.inner1 = nn.Linear(7, 8), nn.Linear(4, 8), nn.Linear(8, 7)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.outer1(self.inner1(x).relu())
        return self.head(x + self.outer2(self.inner2(x).relu()))


def test_a_stream_comes_first_and_inner_groups_as_they_run():
    g = secateur.trace(Shuffled(), torch.zeros(2, 4))
    assert [x.name for x in g.groups] != [x.name for x in in_order(g)]
    stream = next(x for x in g.groups if x.size == 8)
    assert in_order(g) == [stream, g["inner1"], g["inner2"]]


@pytest.mark.parametrize("name", ["concat", "depthwise", "twice", "squeeze", "transposed", "digits-resnet"])
def test_all_groups_are_there_and_what_the_first_writer_reads_comes_before(name):
    g = graph(name)
    found = [x.name for x in in_order(g)]
    assert sorted(found) == sorted(x.name for x in g.groups)
    number = {c.weight: c.number for c in reversed(g.trace.contractions)}
    for group in g.groups:
        written = [number[s.writer.weight] for s in group.sources if s.writer.weight in number]
        read = {
            x.name: min((number[m.tensor] for m in x.members if m.reads and m.tensor in number), default=None)
            for x in g.groups
        }
        for other, first in read.items():
            if other != group.name and first is not None and written and first <= min(written):
                assert found.index(other) < found.index(group.name)
