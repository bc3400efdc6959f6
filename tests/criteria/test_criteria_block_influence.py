"""Block influence: closed forms, and NumPy on what blocks take and give, wherever the channels lie."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import fill, images
from secateur.criteria.block_influence import BlockInfluence
from secateur.errors import BadModel


class Block(nn.Module):
    """x + branch(x), with an activation behind or not."""

    def __init__(self, branch, after=None, norm=None):
        super().__init__()
        self.branch, self.after, self.norm = branch, after or nn.Identity(), norm or nn.Identity()

    def forward(self, x):
        return self.after(x + self.branch(self.norm(x)))


class Tokens(nn.Module):
    """A linear layer over the second axis, as MLP-Mixer has."""

    def __init__(self, count):
        super().__init__()
        self.linear = nn.Linear(count, count)

    def forward(self, x):
        return self.linear(x.transpose(1, 2)).transpose(1, 2)


class Net(nn.Module):
    """A stem that gives what blocks of some layout take."""

    def __init__(self, stem, blocks, axis):
        super().__init__()
        self.stem, self.blocks, self.axis, self.head = stem, nn.ModuleList(blocks), axis, nn.Linear(6, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = x.movedim(self.axis, -1)
        return self.head(x if x.dim() == 2 else x.flatten(1, -2).mean(1))


class Last(nn.Module):
    """(B, C, H, W) to (B, H, W, C)."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class Positions(nn.Module):
    """Learned positions make the sequence an axis that a parameter has."""

    def __init__(self, count):
        super().__init__()
        self.linear, self.positions = nn.Linear(4, 6), nn.Parameter(torch.zeros(1, count, 6))

    def forward(self, x):
        return self.linear(x) + self.positions


def conv(n=2, kernel=3, **options):
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1](6, 6, kernel, padding=kernel // 2, **options)


LAYOUTS = {  # as many rows as channels where there are rows, so that sizes tell nothing
    "BCHW": lambda: (Net(conv(), [Block(conv()), Block(conv())], 1), images(3, 6, 6, 6)),
    "BHWC": lambda: (
        Net(nn.Sequential(conv(), Last()), [Block(nn.Linear(6, 6), norm=nn.LayerNorm(6)) for _ in "ab"], -1),
        images(3, 6, 6, 6),
    ),
    "BCL": lambda: (Net(conv(1), [Block(conv(1)), Block(conv(1))], 1), images(3, 6, 6)),
    "BCDHW": lambda: (Net(conv(3), [Block(conv(3))], 1), images(2, 6, 6, 3, 6)),
    "BC": lambda: (Net(nn.Linear(6, 6), [Block(nn.Linear(6, 6))], 1), images(5, 6)),
    "BLC": lambda: (Net(nn.Linear(4, 6), [Block(nn.Linear(6, 6)), Block(nn.Linear(6, 6))], -1), images(3, 6, 4)),
    "positions": lambda: (Net(Positions(6), [Block(nn.Linear(6, 6), norm=nn.LayerNorm(6))], -1), images(3, 6, 4)),
    "mixer": lambda: (
        Net(nn.Linear(4, 6), [Block(Tokens(6), norm=nn.LayerNorm(6)), Block(nn.Linear(6, 6))], -1),
        images(3, 6, 4),
    ),
    "on the input": lambda: (Net(nn.Identity(), [Block(conv(1)), Block(conv(1))], 1), images(3, 6, 6)),
}


def scores(net, x, sizes=None, **options):
    """By block."""
    g = secateur.trace(net, x[:2], kinds=("depth",))
    batches = [(b, None) for b in x.split(sizes or len(x))]
    return {n: float(s) for n, s in secateur.score(g, BlockInfluence(**options), batches=batches).items()}


def watched(net, x):
    """What each block takes and gives, channels last: (positions, channels) each."""
    seen = {}
    for name, block in net.named_modules():
        if isinstance(block, Block):
            block.register_forward_hook(lambda m, a, y, n=name: seen.update({n: (a[0], y)}))
    with torch.no_grad():
        net(x)
    return {n: [t.movedim(net.axis, -1).reshape(-1, 6).numpy() for t in pair] for n, pair in seen.items()}


def cosines(x, y):
    """By the book; of two vectors of zeros 1, of one 0."""
    found = []
    for a, b in zip(x, y, strict=True):
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        found.append(a @ b / lengths if lengths else float(not a.any() and not b.any()))
    return np.clip(found, -1, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vectors_run_over_channels_wherever_they_lie(layout):
    net, x = LAYOUTS[layout]()
    net, x = fill(net).double().eval(), x.double()
    found, angles = scores(net, x, 2), scores(net, x, 2, angular=True)
    seen = watched(net, x)
    assert set(found) == set(seen)
    for name, (a, b) in seen.items():
        assert found[name] == pytest.approx(1 - cosines(a, b).mean(), rel=1e-12)
        assert angles[name] == pytest.approx((np.arccos(cosines(a, b)) / np.pi).mean(), rel=1e-9)


def relu_net(bias, scale=0.0):
    """A stream behind a ReLU that is zero at many positions, and one block of convolutions times `scale`."""
    net = fill(Net(nn.Sequential(conv(), nn.ReLU()), [Block(conv(bias=False), nn.ReLU())], 1)).eval()
    net.stem[0].bias.data.fill_(bias)
    net.blocks[0].branch.weight.data *= scale
    return net


@pytest.mark.parametrize("bias", [-3.0, 9.0, -1e6])
@pytest.mark.parametrize("angular", [False, True])
def test_a_block_that_adds_nothing_scores_nothing_exactly(bias, angular):
    """Where a position is all zeros before and after, nothing has changed."""
    net, x = relu_net(bias), images(4, 6, 8, 8)
    (before, after) = watched(net, x)["blocks.0"]
    np.testing.assert_array_equal(before, after)
    assert (before == 0).all(1).any() == (bias < 0)
    assert (before != 0).any() == (bias > -1e6)
    assert scores(net, x, angular=angular) == {"blocks.0": 0.0}


def test_zeros_that_something_becomes_of_count_as_at_right_angles():
    net, x = relu_net(-2.0, scale=1.0), images(4, 6, 8, 8)
    before, after = watched(net, x)["blocks.0"]
    lone = (before != 0).any(1) ^ (after != 0).any(1)
    assert lone.any()
    assert scores(net, x)["blocks.0"] == pytest.approx(1 - cosines(before, after).mean(), rel=1e-6)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.linear = nn.Linear(6, 6, bias=False)
        self.linear.weight.data.copy_(factor * torch.eye(6))

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize(("factor", "score", "angle"), [(-2, 2, 1), (-1, 1, 0.5), (0, 0, 0), (2, 0, 0), (1e-3, 0, 0)])
def test_blocks_that_only_scale(factor, score, angle):
    """x to (1 + factor) x: against it, gone, as it was, longer."""
    net, x = Net(nn.Linear(6, 6), [Block(Times(factor))], -1).double(), images(5, 4, 6).double()
    assert scores(net, x)["blocks.0"] == pytest.approx(score, abs=1e-15)
    assert scores(net, x, angular=True)["blocks.0"] == pytest.approx(angle, abs=1e-15)


@pytest.mark.parametrize("factor", [2.0**-40, 1e-12, 1e9])
def test_the_length_of_what_comes_out_does_not_matter(factor):
    """Nor does that of what goes in."""

    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.blocks, self.factor = nn.ModuleList([Block(nn.Linear(6, 6, bias=False))]), factor
            self.stem, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.blocks[0](self.stem(x) * self.factor))

    x = images(5, 4, 6).double()
    one, other = (scores(fill(Scaled(f)).double(), x)["blocks.0"] for f in (1.0, factor))
    assert one > 0.01
    assert other == pytest.approx(one, rel=1e-12)


def test_a_right_angle_is_half_way():
    """Each vector turned by 90 degrees."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    net = Net(nn.Linear(6, 6), [Block(Times(0))], -1).double()
    net.blocks[0].branch.linear.weight.data.copy_(torch.block_diag(turn, turn, turn) - torch.eye(6))
    x = images(5, 4, 6).double()
    assert scores(net, x)["blocks.0"] == pytest.approx(1, abs=1e-15)
    assert scores(net, x, angular=True)["blocks.0"] == pytest.approx(0.5, abs=1e-15)


def test_small_angles_are_not_lost():
    """The cosine of an angle of 1e-6 differs from 1 by 5e-13."""
    net = Net(nn.Identity(), [Block(Times(0))], -1).double()
    net.blocks[0].branch.linear.weight.data[1, 0] = 1e-6
    x = torch.zeros(5, 4, 6).double()
    x[..., 0] = 3
    assert scores(net, x, angular=True)["blocks.0"] == pytest.approx(np.arctan(1e-6) / np.pi, rel=1e-9)


def test_where_channels_cannot_be_told_it_is_refused_by_name():
    """Layers write both axes, and no norm says which holds the channels."""
    net = fill(Net(nn.Linear(4, 6), [Block(Tokens(6)), Block(nn.Linear(6, 6))], -1)).eval()
    with pytest.raises(BadModel, match=r"no blocks of 'blocks\.0'.*axes 1, 2 of what .*frozen='blocks\.0'"):
        scores(net, images(3, 6, 4))


def test_a_block_called_in_two_layouts_is_refused_by_name():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.stem, self.head = Block(nn.Linear(6, 6)), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = self.block(self.stem(x))
            return self.head(self.block(x.flatten(1, 2)).mean(1))

    with pytest.raises(BadModel, match=r"'block'.*two layouts"):
        scores(fill(Twice()).eval(), images(3, 4, 5, 6))


def test_a_block_called_twice_counts_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.stem, self.head = Block(nn.Linear(6, 6)), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            self.given = [self.stem(x)]
            for _ in "ab":
                self.given.append(self.block(self.given[-1]))
            return self.head(self.given[-1])

    net, x = fill(Twice()).double().eval(), images(3, 4, 6).double()
    found = scores(net, x)["block"]
    with torch.no_grad():
        net(x)
    a, b, c = (t.reshape(-1, 6).numpy() for t in net.given)
    assert found == pytest.approx(1 - np.concatenate([cosines(a, b), cosines(b, c)]).mean(), rel=1e-12)


def test_half_precision_is_measured_in_double():
    x = images(3, 5, 6)
    net = fill(Net(nn.Linear(6, 6), [Block(nn.Linear(6, 6))], -1)).to(torch.bfloat16)
    seen = {}
    net.blocks[0].register_forward_hook(lambda m, a, y: seen.update(x=a[0].detach(), y=y.detach()))
    found = scores(net, x.bfloat16())["blocks.0"]
    a, b = (t.double().reshape(-1, 6).numpy() for t in (seen["x"], seen["y"]))
    assert found == pytest.approx(1 - cosines(a, b).mean(), rel=1e-9)
