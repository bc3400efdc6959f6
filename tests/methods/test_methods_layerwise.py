"""Layer by layer: the choice is made on the network as it is by then, and the refit aims at the dense one."""

import pytest
import torch
from torch import nn

import secateur
from held import batches, same_weights, unchanged
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


@pytest.mark.parametrize("name", ["plain", "padded", "concat", "flat"])
@pytest.mark.parametrize("criterion", ["lasso", "l2"])
def test_nets_come_nearer_than_without_a_refit_and_nothing_is_touched(name, criterion):
    model, example = fresh(name), ALL[name].example
    data = batches(example, 8)
    with unchanged(model):
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
