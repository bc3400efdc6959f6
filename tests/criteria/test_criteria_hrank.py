"""Ranks of feature maps against NumPy, map by map; planted ranks; which maps are meant."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, graph
from secateur.criteria.hrank import HRank
from secateur.errors import BadModel, NeedsData
from secateur.evidence.base import Sampling
from secateur.evidence.collect import collect
from secateur.evidence.ranks import ranks


def identity(channels):
    """The hidden maps are the input's, so that ranks can be planted."""
    net = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.Identity(), nn.Conv2d(channels, 2, 1)).eval()
    net[0].weight.data.copy_(torch.eye(channels)[:, :, None, None])
    return net


def scores(net, x, group="0", size=None, images=10**6):
    """Unscaled."""
    size = size or len(x)
    g = secateur.trace(net, x[:1])
    batches = [(x[i : i + size], None) for i in range(0, len(x), size)]
    evidence = collect(g, {"ranks"}, batches=batches, sampling=Sampling(images=images))
    return HRank().score(g[group], evidence)


def by_numpy(maps):
    return np.linalg.matrix_rank(maps.detach().numpy()).mean(0)


def images(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(examples=4, size=6):
    """(examples, 5, size, size) of rank 0, 1, 2, all, and 1 or 3 in turns."""
    low = [images(examples, size, r) @ images(examples, r, size, seed=2) for r in (1, 2, 3)]
    maps = [torch.zeros(examples, size, size), low[0], low[1], torch.eye(size).expand(examples, -1, -1), low[2].clone()]
    maps[4][::2] = torch.ones(size, size)
    return torch.stack(maps, 1)


def test_planted_ranks():
    assert scores(identity(5), planted()).tolist() == [0, 1, 2, 6, 2]


def test_ranks_are_those_of_numpy():
    net = fill(nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))).eval()
    x = images(6, 1, 9, 9)
    for group, part in (("0", net[:2]), ("2", net[:4])):
        np.testing.assert_array_equal(scores(net, x, group, 4), by_numpy(part(x)))


def test_the_first_examples_are_looked_at_and_no_more():
    x = torch.cat([planted(4), torch.zeros(4, 5, 6, 6)])
    whole = scores(identity(5), x[:4])
    for size in (8, 3, 1):
        assert torch.equal(scores(identity(5), x, size=size, images=4), whole)
    assert torch.equal(scores(identity(5), x), whole / 2)
    g = secateur.trace(identity(5), x[:1])
    assert collect(g, {"ranks"}, batches=[(x, None)]).of("ranks", "0")["count"].tolist() == [8]  # 500 by default


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_ranks_to_the_precision_of_the_type(dtype):
    """A map of rank one, rounded, is of full rank only in a type that is finer than it was rounded to."""
    x = planted().to(dtype)
    assert scores(identity(5).to(dtype), x)[[0, 3]].tolist() == [0, 6]
    assert ranks(planted()[:, 1:2].double()).tolist() != [[1.0]] * 4
    assert ranks(planted()[:, 1:2]).tolist() == [[1.0]] * 4


class Ends(nn.Module):
    """What stands between the last convolution and the classifier."""

    def __init__(self, how, size=4):
        super().__init__()
        self.conv, self.how = nn.Conv2d(1, 6, 3, padding=1), how
        self.head = nn.Linear(6 * size * size if how in ("flatten", "view", "dropout") else 6, 3)
        self.last = nn.Conv2d(6, 3, 1)

    def forward(self, x):
        x = self.maps = F.relu(self.conv(x))
        if self.how == "excite":
            return self.last(F.adaptive_avg_pool2d(x, 1)).flatten(1)
        x = {
            "mean": lambda: x.mean((2, 3)),
            "mean, negative": lambda: x.mean(dim=[-1, -2]),
            "amax": lambda: x.amax(dim=(2, 3)),
            "adaptive": lambda: torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1),
            "maximum": lambda: F.adaptive_max_pool2d(x, 1).squeeze(3).squeeze(2),
            "one pool": lambda: F.avg_pool2d(x, 4).view(x.size(0), -1),
            "flatten": lambda: x.flatten(1),
            "view": lambda: x.view(x.size(0), -1),
            "dropout": lambda: F.dropout(x.reshape(x.size(0), -1), 0.5, self.training),
        }[self.how]()
        return self.head(x)


@pytest.mark.parametrize(
    "how",
    [
        *("mean", "mean, negative", "amax", "adaptive", "maximum", "one pool"),
        *("flatten", "view", "dropout", "excite"),
    ],
)
def test_behind_pooling_and_flattening_it_is_the_map_before(how):
    net, x = fill(Ends(how)).eval(), images(5, 1, 4, 4)
    g = secateur.trace(net, x[:1])
    found = scores(net, x, g.groups[0].name, 3)
    with torch.no_grad():
        net(x)
    np.testing.assert_array_equal(found, by_numpy(net.maps))
    assert found.std() > 0


def test_a_pool_before_flattening_leaves_the_pooled_map():
    net = fill(nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3)))
    x = images(5, 1, 4, 4)
    np.testing.assert_array_equal(scores(net.eval(), x), by_numpy(net[:3](x)))


def test_several_readers_are_averaged():
    class Stream(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block, self.last = (nn.Conv2d(i, 6, 3, padding=1) for i in (1, 6, 6))
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            self.maps = [F.relu(self.stem(x))]
            self.maps.append(F.relu(self.maps[0] + self.block(self.maps[0])))
            self.maps.append(F.relu(self.maps[1] + self.last(self.maps[1])))
            return self.head(self.maps[2].mean((2, 3)))

    net, x = fill(Stream()).eval(), images(5, 1, 4, 4)
    found = scores(net, x, "stem")
    with torch.no_grad():
        net(x)
    np.testing.assert_allclose(found, np.mean([by_numpy(m) for m in net.maps], 0), rtol=1e-12)


def test_a_unit_of_several_channels_has_the_average_of_their_ranks():
    """Of a grouped reader the same number of channels goes in each group."""
    net = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.Identity(), nn.Conv2d(4, 4, 1, groups=2)).eval()
    net[0].weight.data.copy_(torch.eye(4)[:, :, None, None])
    x = planted()[:, :4]
    g = secateur.trace(net, x[:1])
    by_channel = torch.tensor([0.0, 1, 2, 6]).double()
    index = torch.from_numpy(g["0"].sources[0].index)
    assert index.shape == (2, 2)
    assert torch.equal(scores(net, x), by_channel[index].mean(1))


class LastAxis(nn.Module):
    """Channels stand last when they are pooled or flattened."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.how = nn.Conv2d(1, 4, 3, padding=1), how
        self.head = nn.Linear(4 if how == "mean" else 64, 3)

    def forward(self, x):
        x = F.relu(self.conv(x)).permute(0, 2, 3, 1)
        return self.head(x.mean((1, 2)) if self.how == "mean" else x.flatten(1))


@pytest.mark.parametrize("how", ["mean", "flatten"])
def test_maps_that_lie_otherwise_are_refused_and_never_mistaken(how):
    """As many rows as channels, so that shapes alone would not tell."""
    with pytest.raises(BadModel, match="no layer reads feature maps of it"):
        scores(fill(LastAxis(how)).eval(), images(3, 1, 4, 4), "conv")


def test_groups_without_maps_are_refused_by_name():
    g = graph("mlp")
    with pytest.raises(BadModel, match=r"no ranks of '0': no layer reads feature maps of it \(kinds=\(\"channel\",\)"):
        secateur.score(g, "hrank", batches=[(g.example, None)])
    flat = graph("flat")
    with pytest.raises(BadModel, match="no ranks of 'hidden'"):
        secateur.score(flat, "hrank", batches=[(flat.example, None)])
    channels = secateur.trace(flat.model, flat.example, kinds="channel")
    assert set(secateur.score(channels, "hrank", batches=[(flat.example, None)])) == {"one.0", "two"}


def test_dead_single_and_tied_channels():
    assert scores(identity(3), torch.zeros(4, 3, 5, 5)).tolist() == [0, 0, 0]
    assert scores(identity(1), torch.ones(4, 1, 5, 5)).tolist() == [1]
    assert scores(identity(2), torch.ones(4, 2, 1, 1)).tolist() == [1, 1]


def test_no_data_and_broken_data_are_refused():
    g = graph("plain")
    for batches, why in (
        (None, "give batches"),
        ([], "are empty"),
        ([(g.example * float("nan"), None)], "batch 0 gives"),
    ):
        with pytest.raises(NeedsData, match=why):
            secateur.score(g, "hrank", batches=batches)


def test_it_prunes():
    g = graph("digits-vgg")
    data = [(images(8, *g.example.shape[1:]), None)]
    pruned = secateur.prune(g.model, g.example, budget=secateur.Budget(macs=0.5), criterion="hrank", batches=data)
    assert pruned.after.macs <= 0.5 * pruned.before.macs
