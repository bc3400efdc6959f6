"""prune_: the caller's own object becomes smaller, and all that hung on it still hangs on it."""

import copy

import pytest
import torch
from deploy_models import HOW, NAMES, cut, example, fresh, logits, words
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import secateur
from held import assert_unchanged, same_weights
from nets import conv_bn, fill, images
from secateur.allocation.uniform import Uniform
from secateur.errors import SecateurError

HALF = Uniform(keep=0.5)
X = images(2, 3, 8, 8)


class Net(nn.Module):
    """Two convolutions and a head; one hidden layer in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv_bn(3, 8), conv_bn(8, 12)
        self.mlp = nn.ModuleList([nn.Linear(12, 10), nn.Linear(10, 4)])

    def forward(self, x):
        return self.mlp[1](torch.relu(self.mlp[0](self.two(self.one(x)).mean((2, 3)))))


def net():
    return fill(Net())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_modules_config_and_ties_as_the_copy(name):
    how = "ranked"
    mine = fresh(name)
    modules, config = dict(mine.named_modules()), mine.config
    ids = {n: id(m) for n, m in modules.items()}
    done = secateur.prune_(mine, example(name), **HOW[how])
    assert done.model is mine
    assert mine.config is config
    assert {n: id(m) for n, m in mine.named_modules()} == ids
    assert same_weights(mine, cut(name, how).model)
    assert done.plan == cut(name, how).plan
    assert mine.training
    assert torch.equal(logits(mine, example(name)), logits(cut(name, how).model, example(name)))
    said = [
        m.eval().generate(input_ids=words(), max_new_tokens=5, do_sample=False) for m in (mine, cut(name, how).model)
    ]
    assert torch.equal(*said)


def test_modes_are_kept_module_by_module():
    mine = net().train()
    mine.one.eval()
    before = {n: m.training for n, m in mine.named_modules()}
    secateur.prune_(mine, X, allocator=HALF)
    assert {n: m.training for n, m in mine.named_modules()} == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_and_what_is_frozen_are_kept(dtype):
    mine = net().to(dtype)
    mine.one.requires_grad_(False)
    secateur.prune_(mine, X.to(dtype), allocator=HALF)
    assert {t.dtype for t in mine.state_dict().values() if t.is_floating_point()} == {dtype}
    assert {n for n, p in mine.named_parameters() if not p.requires_grad} == {
        "one.0.weight",
        "one.1.weight",
        "one.1.bias",
    }
    assert mine.one[0].weight.shape == (4, 3, 3, 3)
    mine(X.to(dtype)).sum().backward()
    assert mine.one[0].weight.grad is None
    assert mine.two[0].weight.grad.shape == mine.two[0].weight.shape == (6, 4, 3, 3)


def test_hooks_fire_on_the_smaller_model():
    mine, seen = net().eval(), []
    mine.one.register_forward_hook(lambda m, args, out: seen.append(("after", tuple(out.shape))))
    mine.two.register_forward_pre_hook(lambda m, args: seen.append(("before", tuple(args[0].shape))))
    mine.two[0].weight.register_hook(lambda g: seen.append(("weight", tuple(g.shape))))
    mine.one.register_full_backward_hook(lambda m, before, after: seen.append(("back", tuple(after[0].shape))))
    secateur.prune_(mine, X, allocator=HALF)
    seen.clear()
    mine(X).sum().backward()
    assert {("after", (2, 4, 8, 8)), ("before", (2, 4, 8, 8)), ("back", (2, 4, 8, 8))} <= set(seen)


def test_a_hook_that_changes_what_flows_is_part_of_the_model():
    for options in ({}, {"prepend": True}):
        mine = net().eval()
        mine.one.register_forward_hook(lambda m, args, out: out * 2 + 1, **options)
        made = secateur.prune(mine, X, allocator=HALF)
        assert made.check.max_error < 1e-9
        wanted = made.model(X)
        secateur.prune_(mine, X, allocator=HALF)
        assert torch.equal(mine(X), wanted)
        mine.one._forward_hooks.clear()
        assert not torch.equal(mine(X), wanted)


def test_a_tracing_run_does_not_leave_fakes_with_a_hook_that_remembers():
    mine, seen = net().eval(), []
    mine.one.register_forward_hook(lambda m, args, out: seen.append(out))
    secateur.prune_(mine, X, allocator=HALF)
    seen.clear()
    mine(X)
    assert [type(t) for t in seen] == [torch.Tensor]


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_weights_are_cut_and_stay_parametrized_or_are_refused_by_name(wrap):
    def build():
        mine = net()
        torch.manual_seed(0)  # spectral norm starts from noise
        wrap(mine.mlp[0])
        wrap(mine.two[0])
        return mine.eval()

    mine = build()
    groups = secateur.trace(mine, X).groups
    secateur.prune_(mine, X, allocator=HALF)
    assert parametrize.is_parametrized(mine.mlp[0], "weight")
    assert parametrize.is_parametrized(mine.two[0], "weight")
    made = secateur.prune(build(), X, allocator=HALF)
    assert torch.equal(mine(X), made.model(X))
    assert made.check.max_error < 1e-6
    names = {m.tensor for g in groups for m in g.members}
    assert "one.0.weight" in names
    if wrap is parametrizations.weight_norm:
        assert mine.two[0].weight.shape == (6, 4, 3, 3)
        assert mine.mlp[0].weight.shape == (5, 6)
    mine.train()(X).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in mine.parameters())


@pytest.mark.parametrize("make", [torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_older_hooks_of_weights_are_cut_exactly_or_refused_by_name(make):
    mine = net().eval()
    make(mine.two[0])
    try:
        made = secateur.prune(mine, X, allocator=HALF)
    except SecateurError:
        return
    assert made.check.max_error < 1e-6
    made.model.train()(X).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in made.model.parameters())


@pytest.mark.parametrize("in_place", [True, False])
def test_a_cut_model_compiles(in_place):
    mine = net().eval()
    made = (secateur.prune_ if in_place else secateur.prune)(mine, X, allocator=HALF).model
    compiled = torch.compile(made, backend="eager", fullgraph=True)
    assert torch.equal(compiled(X), made(X))


def test_a_model_compiled_in_place_before_runs_its_new_shapes():
    mine = net().eval()
    mine.compile(backend="eager")
    mine(X)
    wanted = secateur.prune(net().eval(), X, allocator=HALF).model(X)
    secateur.prune_(mine, X, allocator=HALF)
    assert torch.equal(mine(X), wanted)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_cut_language_model_compiles(name):
    model = copy.deepcopy(cut(name, "ranked").model).eval()
    wanted = logits(model, example(name) | {"use_cache": False})
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        assert (compiled(**example(name), use_cache=False).logits - wanted).abs().max() < 1e-5


def test_what_fails_changes_nothing():
    mine = net()
    with assert_unchanged(mine), pytest.raises(SecateurError):
        secateur.prune_(mine, X, budget=secateur.Budget(macs=1e-9))


def test_an_optimizer_made_after_the_cut_holds_what_is_left():
    mine = net().train()
    secateur.prune_(mine, X, allocator=HALF)
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1)
    before = mine.two[0].weight.detach().clone()
    mine(X).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, mine.two[0].weight)
    assert all(m.num_features == m.running_mean.shape[0] for m in mine.modules() if isinstance(m, nn.BatchNorm2d))


def test_a_dict_of_weights_loads_into_another_that_was_cut_alike():
    mine, other = net(), net()
    for model in (mine, other):
        secateur.prune_(model, X, allocator=HALF)
    with torch.no_grad():
        for p in mine.parameters():
            p.mul_(1.5)
    other.load_state_dict(mine.state_dict())
    assert same_weights(mine, other)
