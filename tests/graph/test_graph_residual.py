"""Residual blocks: found where zero branches make a module give its input back, and nowhere else."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, images


def conv(size=4):
    return nn.Conv2d(size, size, 3, padding=1)


class Block(nn.Module):
    """A branch and a form of its own."""

    def __init__(self, form):
        super().__init__()
        self.form, self.branch, self.other = form, conv(), conv()

    def forward(self, x):
        return self.form(self, x)


def in_place(m, x):
    out = m.branch(x)
    out += x
    return out


def relu_in_place(m, x):
    return F.relu(m.branch(x) + x, inplace=True)


def twice(m, x):
    x = x + m.branch(x)
    return m.other(x) + x


def parallel(m, x):
    return x + m.branch(x) + m.other(x)


def through_views(m, x):
    shape = x.shape
    y = x.flatten(2) + m.branch(x).flatten(2)
    return y.reshape(shape)


def with_dropout(m, x):
    return x + F.dropout(m.branch(x), 0.5, training=m.training)


FOUND = {
    "plain": (lambda m, x: x + m.branch(x), 1),
    "in place": (in_place, 1),
    "twice": (twice, 2),
    "parallel": (parallel, 2),
    "views": (through_views, 1),
    "dropout": (with_dropout, 1),
    "torch.add": (lambda m, x: torch.add(m.branch(x), x), 1),
    "a branch of its own output": (lambda m, x: x + m.other(m.branch(x).relu()), 1),
}
AFTER_RELU = {"relu": (lambda m, x: F.relu(m.branch(x) + x), 1), "relu in place": (relu_in_place, 1)}
NEVER = {
    "no shortcut": lambda m, x: m.branch(x),
    "a shortcut with weights": lambda m, x: m.branch(x) + m.other(x),
    "the input twice": lambda m, x: x + m.branch(x) + x,
    "scaled": lambda m, x: 0.5 * x + m.branch(x),
    "added with a factor": lambda m, x: torch.add(m.branch(x), x, alpha=2),
    "a norm behind": lambda m, x: F.layer_norm(x + m.branch(x), x.shape[1:]),
    "gelu behind": lambda m, x: F.gelu(x + m.branch(x)),
    "turned": lambda m, x: (x + m.branch(x)).transpose(2, 3),
    "multiplied": lambda m, x: x * m.branch(x).sigmoid(),
    "something beside it": lambda m, x: (x + m.branch(x), m.other(x)),
}


class Net(nn.Module):
    def __init__(self, form, relu):
        super().__init__()
        self.stem, self.relu = conv(), relu
        self.blocks = nn.ModuleList([Block(form), Block(form)])
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        x = F.max_pool2d(F.relu(x), 2) if self.relu else x
        for block in self.blocks:
            x = block(x)
            x = x[0] + x[1] if isinstance(x, tuple) else x
        return self.head(x.mean((2, 3)))


def found(form, relu=False):
    model = fill(Net(form, relu)).double().eval()
    return secateur.trace(model, images(2, 4, 8, 8).double(), kinds=("depth",))


@pytest.mark.parametrize(
    ("name", "relu"), [*[(n, r) for n in FOUND for r in (False, True)], *[(n, True) for n in AFTER_RELU]]
)
def test_it_is_found_with_its_branches_and_dropping_it_is_exact(name, relu):
    form, branches = (FOUND | AFTER_RELU)[name]
    g = found(form, relu)
    assert [(r.path, len(r.joins)) for r in g.trace.residuals] == [("blocks.0", branches), ("blocks.1", branches)]
    pruned = secateur.cut(g, secateur.Plan(edits=(secateur.Drop(block="blocks.0"),)))
    assert pruned.check.max_error < 1e-12
    assert isinstance(pruned.model.blocks[0], nn.Identity)
    for size in (8, 12):
        x = images(3, 4, size, size).double()
        y = g.model.stem(x)
        y = g.model.blocks[1](F.max_pool2d(F.relu(y), 2) if relu else y)
        torch.testing.assert_close(pruned.model(x), g.model.head(y.mean((2, 3))), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NEVER)
def test_what_does_not_give_its_input_back_is_no_block(name):
    for relu in (False, True):
        assert found(NEVER[name], relu).trace.residuals == ()


def test_a_relu_gives_back_only_what_came_from_one():
    assert found(AFTER_RELU["relu"][0], relu=False).trace.residuals[1:] == ()
    clipped = lambda m, x: F.relu6(m.branch(x) + x)  # noqa: E731
    paths = [r.path for r in found(clipped, relu=True).trace.residuals]
    assert paths == ["blocks.1"]  # the first is given what came from a ReLU, which a ReLU6 changes


def test_a_block_inside_a_block_is_no_unit_of_its_own():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = Block(FOUND["plain"][0]), conv()

        def forward(self, x):
            return x + self.last(self.inner(x))

    net = fill(nn.Sequential(conv(), Outer(), conv(), nn.Flatten(), nn.Linear(4 * 64, 3)))
    g = secateur.trace(net, images(2, 4, 8, 8), kinds=("depth",))
    assert [x.name for x in g.groups] == ["1"]


def test_a_block_that_runs_twice_goes_from_both_places():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block, self.head = conv(), Block(FOUND["plain"][0]), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.block(self.block(self.stem(x))).mean((2, 3)))

    net = fill(Again()).double().eval()
    x = images(2, 4, 8, 8).double()
    g = secateur.trace(net, x, kinds=("depth",))
    pruned = secateur.cut(g, secateur.Plan.keeping(g, {"block": ()}))
    torch.testing.assert_close(pruned.model(x), net.head(net.stem(x).mean((2, 3))))
