"""Layer by layer: the choice is made on the network as it is by then, and the refit aims at the dense one."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso as Reference
from torch import nn

import secateur
from held import assert_unchanged, batches, same_weights
from nets import ALL, fresh, graph
from secateur.allocation.uniform import Uniform
from secateur.errors import NeedsData, NothingToDo
from secateur.methods.layerwise import layerwise
from secateur.surgery.reconstruct import reconstruct

BUDGET = secateur.Budget(macs=0.5)


def test_of_one_group_it_is_plan_cut_and_reconstruct():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4)).double()
    data = [(torch.randn(40, 6, dtype=torch.float64), None) for _ in range(3)]
    found = layerwise(net, data[0][0][:1], data, budget=BUDGET)
    expected = secateur.prune(
        net,
        data[0][0][:1],
        budget=BUDGET,
        criterion="lasso",
        allocator="uniform",
        batches=data,
        repair="reconstruct",
    )
    assert found.plan == expected.plan
    assert (found.before, found.after) == (expected.before, expected.after)
    for name, tensor in expected.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], tensor)


class Chain(nn.Module):
    """Unit 0 of the second layer is strong, and hears unit 0 of the first alone, which nobody else hears well."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = (nn.Linear(4, 4, bias=False) for _ in range(3))
        with torch.no_grad():
            self.one.weight.copy_(torch.diag(torch.tensor([0.1, 2.0, 2.0, 2.0])))
            self.two.weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.5])))
            self.out.weight.copy_(torch.diag(torch.tensor([9.0, 0.3, 0.3, 0.3])))

    def forward(self, x):
        return self.out(self.two(self.one(x)))


@pytest.mark.parametrize("criterion", ["lasso", "thinet", "thinet-ls", "obs"])
def test_what_went_before_is_seen(criterion):
    """Once unit 0 of the first layer is gone, unit 0 of the second says nothing: only in order is that known."""
    net = Chain().double()
    data = [(torch.randn(400, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), None)]
    options = {"criterion": criterion, "allocator": Uniform(keep=0.75)}
    at_once = secateur.prune(net, data[0][0][:1], batches=data, **options)
    in_order = layerwise(net, data[0][0][:1], data, **options)
    assert at_once.plan.kept["one"].tolist() == in_order.plan.kept["one"].tolist() == [1, 2, 3]
    assert 0 in at_once.plan.kept["two"].tolist()
    assert in_order.plan.kept["two"].tolist() == [1, 2, 3]


class Backwards(Chain):
    """The same, registered last to first."""

    def __init__(self):
        super().__init__()
        for name in ("two", "one"):
            layer = getattr(self, name)
            delattr(self, name)
            setattr(self, name, layer)


def test_in_order_is_as_layers_run_not_as_they_were_registered():
    net = Backwards().double()
    x = torch.randn(400, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert [g.name for g in secateur.trace(net, x[:1]).groups] == ["two", "one"]
    found = layerwise(net, x[:1], [(x, None)], allocator=Uniform(keep=0.75))
    assert found.plan.kept["two"].tolist() == [1, 2, 3]


def lasso_by_scikit_learn(z, y, count):
    """The first of its sets of so many, as the penalty falls; rows for each pair of a sample and an output."""
    top = np.abs(z.T @ y).max() / len(y)
    for n in range(600):
        penalty = top * 0.985**n
        found = Reference(alpha=penalty, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(z, y).coef_
        if np.count_nonzero(found) == count:
            return np.flatnonzero(found).tolist()
    raise AssertionError("no set of so many was met")


def greedily(z, count, error):
    """What is left when each time that channel goes whose loss leaves the least error."""
    left = list(range(z))
    while len(left) > count:
        left.remove(min(left, key=lambda j: error([i for i in left if i != j])))
    return left


def rows_of(h, w, *, centre):
    """(rows * outputs, channels): what each channel adds."""
    z = h[:, None, :] * w[None]
    return (z - z.mean(0) if centre else z).reshape(-1, h.shape[1])


def reference(criterion, h, w, y, count):
    """The channels of h (rows, channels), read by w, that bring the layer nearest to y, by numpy and scikit-learn."""
    centre = criterion != "thinet"
    z = rows_of(h, w, centre=centre)
    y = y - y.mean(0) if centre else y
    flat, h = y.reshape(-1), h - h.mean(0)

    def rest(columns, right):
        return ((right - columns @ np.linalg.lstsq(columns, right, rcond=None)[0]) ** 2).sum()

    if criterion == "lasso":
        return lasso_by_scikit_learn(z, flat, count)
    error = {
        "thinet": lambda kept: ((flat - z[:, kept].sum(1)) ** 2).sum(),
        "thinet-ls": lambda kept: rest(z[:, kept], flat),
        "obs": lambda kept: rest(h[:, kept], y),
    }[criterion]
    return greedily(h.shape[1], count, error)


@pytest.mark.parametrize("criterion", ["lasso", "thinet", "thinet-ls", "obs"])
def test_the_target_is_what_the_dense_layer_gave(criterion):
    """On explicit rows: read from the network as it is by then, aimed at the dense one; aimed at itself, not so."""
    differ = 0
    for seed in (2, 5, 8, 11):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 5)).double()
        x = torch.randn(300, 10).double()
        both = layerwise(net, x[:1], [(x, None)], criterion=criterion, allocator=Uniform(keep={"0": 0.34, "2": 0.5}))
        one = layerwise(net, x[:1], [(x, None)], criterion=criterion, allocator=Uniform(keep={"0": 0.34}))
        with torch.no_grad():
            dense, now, w = (t.numpy() for t in (net[:4](x), one.model[:4](x), net[4].weight))
        assert both.plan.kept["2"].tolist() == reference(criterion, now, w, dense @ w.T, 6)
        differ += both.plan.kept["2"].tolist() != reference(criterion, now, w, now @ w.T, 6)
    assert differ


class Joined(nn.Module):
    """Two groups that one layer reads."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.join = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(16, 4)

    def forward(self, x):
        return self.join(torch.cat([self.left(x).relu(), self.right(x).relu()], 1))


def test_what_another_group_and_the_bias_give_by_then_counts():
    """ThiNet has no intercept: the bias that the first refit moved is no error for channels to mend."""
    differ = 0
    for seed in range(4):
        torch.manual_seed(seed)
        net = Joined().double()
        with torch.no_grad():
            net.left.bias += 1.0
        x = torch.randn(200, 6).double()
        keep = {"left": 0.5, "right": 0.5}
        both = layerwise(net, x[:1], [(x, None)], criterion="thinet", allocator=Uniform(keep=keep))
        one = layerwise(net, x[:1], [(x, None)], criterion="thinet", allocator=Uniform(keep={"left": 0.5}))
        with torch.no_grad():
            y, m = net(x), one.model
            rest = y - m.join.bias - m.left(x).relu() @ m.join.weight[:, :4].T  # what `right` should give by now
            h, w = m.right(x).relu().numpy(), m.join.weight[:, 4:].numpy()
            moved = rest + m.join.bias - net.join.bias
        assert both.plan.kept["right"].tolist() == reference("thinet", h, w, rest.numpy(), 4)
        differ += both.plan.kept["right"].tolist() != reference("thinet", h, w, moved.numpy(), 4)
    assert differ


def test_thinet_as_published_by_numpy():
    """Chosen greedily, each kept channel times one factor by least squares, layer by layer; biases stay."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 5)).double()
    x = torch.randn(300, 10).double()
    options = {"criterion": "thinet", "allocator": Uniform(keep=0.5), "refit": "scale"}
    small = layerwise(net, x[:1], [(x, None)], **options)
    with torch.no_grad():
        h, dense = net[:2](x).numpy(), [net[i].weight.numpy() for i in (0, 2, 4)]
        y = [h @ dense[1].T, net[:4](x).numpy() @ dense[2].T]
    now, kept = h, []
    for number, (w, target) in enumerate(zip(dense[1:], y, strict=True)):
        kept.append(reference("thinet", now, w, target, 6))
        z = rows_of(now[:, kept[-1]], w[:, kept[-1]], centre=False)
        scaled = w[:, kept[-1]] * np.linalg.lstsq(z, target.reshape(-1), rcond=None)[0]
        if number == 0:
            second = scaled
            now = np.maximum(h[:, kept[0]] @ second.T + net[2].bias.detach().numpy(), 0)
    assert [small.plan.kept[name].tolist() for name in ("0", "2")] == kept
    weights = [small.model[i].weight.detach().numpy() for i in (0, 2, 4)]
    for found, expected in zip(weights, (dense[0][kept[0]], second[kept[1]], scaled), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert all(torch.equal(small.model[i].bias, net[i].bias[k]) for i, k in ((0, kept[0]), (2, kept[1]), (4, range(5))))


@pytest.mark.parametrize("name", ["concat", "flat", "padded"])
def test_scaling_leaves_each_kept_channel_of_a_reader_one_factor(name):
    model, example = fresh(name).double(), ALL[name].example.double()
    data = [(torch.randn(16, *example.shape[1:], dtype=torch.float64), None) for _ in range(2)]
    found = layerwise(model, example, data, criterion="thinet", allocator=Uniform(keep=0.5), refit="scale")
    cut = secateur.cut(secateur.trace(model, example), found.plan).model
    small, changed = secateur.trace(found.model, example), 0
    read = [m for group in small.groups for m in group.members if m.reads]
    for m in [x for x in read if sum(x.tensor == y.tensor for y in read) == 1]:
        new, old = (p.get_parameter(m.tensor).detach().movedim(m.axis, 0) for p in (found.model, cut))
        for unit in m.index:
            ratio = (new[unit] * old[unit]).sum() / old[unit].square().sum()
            torch.testing.assert_close(new[unit], ratio * old[unit])
            changed += abs(float(ratio) - 1) > 1e-3
    assert changed


@pytest.mark.parametrize("name", ["plain", "padded", "concat", "flat"])
@pytest.mark.parametrize("criterion", ["lasso", "l2"])
def test_nets_come_nearer_than_without_a_refit_and_nothing_is_touched(name, criterion):
    model, example = fresh(name), ALL[name].example
    data = batches(example, 8)
    with assert_unchanged(model):
        found, again = (layerwise(model, example, data, criterion=criterion, budget=BUDGET) for _ in range(2))
    assert found.plan == again.plan
    assert same_weights(found.model, again.model)
    assert found.after.macs <= 0.5 * found.before.macs
    assert found.plan.widths(graph(name)) == secateur.allocate(
        graph(name), secateur.score(graph(name), criterion, batches=data), BUDGET, allocator="uniform"
    ).widths(graph(name))
    cut = secateur.cut(graph(name), found.plan).model
    x, model = torch.cat([x for x, _ in data]), model.eval()
    with torch.no_grad():
        mended, plain = (float((m.eval()(x) - model(x)).square().sum()) for m in (found.model, cut))
    assert mended < plain


def test_the_last_refit_sees_all_that_was_done_before():
    """Refitted once more, the last layer all but stays: its inputs and its target are those it was fitted to."""
    model, example = fresh("plain").double(), ALL["plain"].example.double()
    data = [(torch.randn(16, 1, 8, 8, dtype=torch.float64), None) for _ in range(4)]
    found = layerwise(model, example, data, budget=BUDGET)
    g, weight = secateur.trace(model, example), "head.linear.weight"
    unfitted = secateur.cut(g, found.plan).model.get_parameter(weight)
    once = found.model.get_parameter(weight).detach().clone()
    reconstruct(g, found.plan, found.model, [x for x, _ in data], only={weight})
    again = found.model.get_parameter(weight)
    assert (again - once).norm() < 0.1 * (once - unfitted).norm()


def test_it_is_stored_and_loaded(tmp_path):
    model, example = fresh("padded"), ALL["padded"].example
    found = layerwise(model, example, batches(example, 4), criterion="thinet", budget=BUDGET)
    secateur.save(found, tmp_path / "small.safetensors")
    assert same_weights(secateur.load(tmp_path / "small.safetensors", into=fresh("padded")), found.model)


def test_frozen_groups_stay_and_what_is_missing_is_said():
    model, example = fresh("plain"), ALL["plain"].example
    found = layerwise(model, example, batches(example), frozen=["one.0"], allocator=Uniform(keep=0.5))
    assert set(found.plan.kept) == {"two.0"}
    with pytest.raises(NeedsData, match="none were given"):
        layerwise(model, example, [], budget=BUDGET)
    with pytest.raises(NothingToDo):
        layerwise(model, example, batches(example), budget=secateur.Budget(macs=1.0))
