"""Depth: whole residual blocks, dropped, counted, stored, replayed, composed; refused by name where they cannot be."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, batches, same_weights
from nets import fresh, graph, images
from secateur import Drop, Keep, Plan
from secateur.allocation.ranked import Ranked
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BadModel, BudgetUnreachable, PlanError, UnknownName, VerificationError
from secateur.surgery import cut as cutting
from secateur.surgery.drop import drop

NET = "resnet20"


@pytest.fixture(scope="module")
def whole():
    return secateur.trace(fresh(NET), graph(NET).example, kinds=("depth",))


def without(g, *names):
    return secateur.cut(g, Plan(edits=tuple(Drop(block=n) for n in names)))


def test_only_if_asked_for(whole):
    assert all(g.kind != "depth" for g in graph(NET).groups)
    assert {(g.kind, g.size) for g in whole.groups} == {("depth", 1)}
    both = secateur.trace(fresh(NET), graph(NET).example, kinds=("channel", "depth"))
    assert {g.kind for g in both.groups} == {"channel", "depth"}
    with pytest.raises(UnknownName, match="depths"):
        secateur.trace(fresh(NET), graph(NET).example, kinds=("depths",))


def test_the_rest_does_what_it_did_with_the_branch_at_zero(whole):
    """A norm with scale and shift zero makes the branch zero: a reference that shares nothing with the cut."""
    names = ("layer1.1", "layer2.2", "layer3.1")
    pruned = without(whole, *names)
    model = copy.deepcopy(whole.model).double().eval()
    with torch.no_grad():
        for name in names:
            model.get_submodule(f"{name}.bn2").weight.zero_()
            model.get_submodule(f"{name}.bn2").bias.zero_()
    x = images(3, 3, 32, 32).double()
    cut = copy.deepcopy(pruned.model).double().eval()
    torch.testing.assert_close(cut(x), model(x), rtol=1e-10, atol=1e-12)
    cut(x).sum().backward()
    assert all(p.grad is not None for p in cut.parameters())


def test_each_block_costs_what_counting_without_it_says(whole):
    dense = CostModel(whole).dense()
    for group in whole.groups:
        pruned = without(whole, group.name)
        again = CostModel(secateur.trace(pruned.model, whole.example)).dense()
        assert pruned.after == again
        inside = sum(p.numel() for p in whole.model.get_submodule(group.name).parameters())
        assert dense.params - pruned.after.params == inside > 0
        assert pruned.after.macs < dense.macs


def test_widths_and_depth_in_one_plan():
    g = secateur.trace(fresh(NET), graph(NET).example, kinds=("channel", "depth"))
    pruned = secateur.prune(
        g.model, g.example, kinds=("channel", "depth"), criterion="random", budget=secateur.Budget(macs=0.4)
    )
    assert pruned.check.max_error < 1e-10
    assert {type(e) for e in pruned.plan.edits} == {Keep, Drop}
    assert pruned.after == CostModel(secateur.trace(pruned.model, g.example)).dense()
    assert pruned.after.macs <= 0.4 * pruned.before.macs


@pytest.mark.parametrize("verify", ["full", "block"])
def test_both_ways_to_check_hold_and_notice(whole, verify, monkeypatch):
    plan = Plan(edits=(Drop(block="layer1.2"),))
    assert secateur.cut(whole, plan, verify=verify).check.max_error < 1e-10

    def wrong(model, residuals):
        drop(model, residuals)
        model.layer1[2] = nn.Hardtanh(-0.1, 0.1)

    monkeypatch.setattr(cutting, "drop", wrong)
    with assert_unchanged(whole.model), pytest.raises(VerificationError, match="differs"):
        secateur.cut(whole, plan, verify=verify)


def test_it_is_stored_and_replayed(whole, tmp_path):
    pruned = without(whole, "layer1.0", "layer3.2")
    secateur.save(pruned, tmp_path / "p.safetensors")
    assert same_weights(secateur.load(tmp_path / "p.safetensors", into=fresh(NET)), pruned.model)
    assert Plan.model_validate_json(pruned.plan.model_dump_json()) == pruned.plan


def test_two_cuts_are_one_by_the_composed_plan(whole):
    first = without(whole, "layer1.1")
    g = secateur.trace(first.model, whole.example, kinds=("channel", "depth"))
    assert "layer1.1" not in [x.name for x in g.groups]
    later = Plan.keeping(g, {"layer2.1": (), "layer3.0.conv1": range(5)})
    second = secateur.cut(g, later)
    both = secateur.trace(whole.model, whole.example, kinds=("channel", "depth"))
    assert same_weights(secateur.cut(both, first.plan.then(later)).model, second.model)


def test_in_place_the_other_modules_are_the_same_objects(whole):
    model = fresh(NET)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(images(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    held, stem = dict(model.named_modules()), model.conv1.weight
    pruned = secateur.prune_(model, whole.example, kinds=("depth",), criterion="random", allocator=Ranked(drop=3))
    gone = [e.block for e in pruned.plan.edits]
    assert len(gone) == 3
    assert model.conv1.weight is stem
    for name, module in model.named_modules():
        assert (module is held[name]) != (name in gone)
    carried = secateur.carry(optimizer, pruned)
    assert [id(p) for g in carried.param_groups for p in g["params"]] == [id(p) for p in model.parameters()]
    assert len(carried.state) == len(list(model.parameters()))
    momentum = carried.state[stem]["momentum_buffer"]
    assert torch.equal(momentum, optimizer.state[stem]["momentum_buffer"])


class Turned(nn.Module):
    """Blocks that multiply their input by 1 + factor: what comes out points where it points, or against it."""

    def __init__(self, factors):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.blocks = nn.ModuleList([Scaled(f) for f in factors])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(factor * torch.eye(8))

    def forward(self, x):
        return x + self.linear(x)


def test_block_influence_is_one_minus_the_cosine():
    net = Turned([0.0, 3.0, -2.0]).double()
    x = images(5, 6).double()
    g = secateur.trace(net, x, kinds=("depth",))
    scores = secateur.score(g, "block-influence", batches=[(x, None), (2 * x[:2], None)])
    values = torch.cat([scores[f"blocks.{i}"] for i in range(3)])
    torch.testing.assert_close(values, torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64), atol=1e-12, rtol=0)
    pruned = secateur.cut(g, secateur.allocate(g, scores, allocator=Ranked(drop=1)))
    assert pruned.plan.edits == (Drop(block="blocks.0"),)
    assert torch.equal(pruned.model(x), net(x))  # a block that adds nothing is dropped without a trace


def test_block_influence_by_brute_force(whole):
    x = images(4, 3, 32, 32)
    scores = secateur.score(whole, "block-influence", batches=[(x, None)])
    seen = {}
    model = copy.deepcopy(whole.model).eval()
    for name in scores:
        model.get_submodule(name).register_forward_hook(lambda m, a, y, n=name: seen.update({n: (a[0], y)}))
    with torch.no_grad():
        model(x)
    for name, (a, b) in seen.items():
        cosine = F.cosine_similarity(a.double().movedim(1, -1), b.double().movedim(1, -1), dim=-1)
        torch.testing.assert_close(scores[name], (1 - cosine.mean())[None])


def test_frozen_blocks_stay(whole):
    for pattern in ("layer1.1", "layer1.1.conv1.weight", "layer1.1.*"):
        g = secateur.trace(whole.model, whole.example, kinds=("depth",), frozen=[pattern])
        assert {x.name for x in whole.groups} - {x.name for x in g.groups} == {"layer1.1"}
        with pytest.raises(PlanError, match="frozen"):
            without(g, "layer1.1")


def test_what_cannot_be_is_said(whole):
    with pytest.raises(UnknownName, match=r"layer1\.9"):
        without(whole, "layer1.9")
    with pytest.raises(PlanError, match="no residual block"):
        without(graph(NET), graph(NET).groups[0].name)
    data = batches(whole.example)
    with pytest.raises(BadModel, match="block-influence"):
        secateur.score(whole, "l2")
    with pytest.raises(BadModel, match="holds widths"):
        secateur.score(graph(NET), "block-influence", batches=data)
    scores = secateur.score(whole, "random")
    for allocator, budget, error in (
        (Ranked(drop=2), secateur.Budget(macs=0.5), BadBudget),
        (Ranked(drop=99), None, BudgetUnreachable),
    ):
        with pytest.raises(error, match="drop="):
            secateur.allocate(whole, scores, budget, allocator=allocator)
    with pytest.raises(BadBudget, match="drop=0"):
        Ranked(drop=0)


def test_every_block_may_go(whole):
    pruned = without(whole, *[g.name for g in whole.groups])
    assert pruned.check.max_error < 1e-10
    assert secateur.trace(pruned.model, whole.example, kinds=("depth",)).groups == ()
