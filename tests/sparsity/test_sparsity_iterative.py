"""Rounds of pruning and training: how many weights are left, and to what they are rewound."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged, batches
from nets import ALL, fresh
from secateur.errors import BadOption, TrainingError, UnknownName
from secateur.sparsity.hold import remembered
from secateur.sparsity.magnitude import Magnitude
from secateur.sparsity.pattern import rounded
from secateur.training import Loader, Recipe, fit

X = torch.randn(24, 12, generator=torch.Generator().manual_seed(0))
LOADER = Loader(X, torch.arange(24) % 4, batch_size=8)
EXAMPLE = ALL["mlp"].example
RECIPE = Recipe(epochs=1, lr=0.1, momentum=0.9, weight_decay=0.01, batch_size=8)


def training(log=None):
    def train(model, round):
        if log is not None:
            log.append((round.number, round.start, remembered(model)))
        fit(model, LOADER, RECIPE, hooks=round.hooks)

    return train


def still(model, round):
    """No training at all."""


def test_a_fifth_of_what_is_left_each_time_and_half_as_much_of_the_last_layer():
    model = nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 20), nn.ReLU(), nn.Linear(20, 10))
    found = list(secateur.iterative(model, torch.randn(2, 40), still, rounds=5))
    for n, sparse in enumerate(found, start=1):
        for name, size, rate in (("0.weight", 2000, 0.2), ("2.weight", 1000, 0.2), ("4.weight", 200, 0.1)):
            left = size * (1 - rate) ** n
            assert sparse.counts[name].size - sparse.counts[name].zeros == pytest.approx(left, abs=n)
    assert [s.counts["0.weight"].zeros for s in found] == [400, 720, 976, 1181, 1345]


def test_counts_follow_the_recurrence_exactly():
    left, found = 108, []
    for _ in range(4):
        left -= rounded(left * secateur.Pattern(sparsity="0.2").fraction, "nearest")
        found.append(108 - left)
    sparse = secateur.iterative(fresh("mlp"), EXAMPLE, still, rounds=4)
    assert [s.counts["0.weight"].zeros for s in sparse] == found


def test_masks_nest_and_are_of_the_trained_weights():
    log = []
    model = fresh("mlp")
    with assert_unchanged(model):
        found = list(secateur.iterative(model, EXAMPLE, training(log), rounds=3))
    assert [entry[:2] for entry in log] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    for earlier, later in pairwise(found):
        assert all(not later.masks[n][~earlier.masks[n]].any() for n in later.masks)
    dense = fresh("mlp")
    fit(dense, LOADER, RECIPE)
    for n, mask in found[0].masks.items():
        weight = dense.get_parameter(n).detach().abs()
        assert weight[~mask].max() <= weight[mask].min()


def test_survivors_start_again_bit_equal_to_where_they_were():
    log = []
    found = list(secateur.iterative(fresh("mlp"), EXAMPLE, training(log), rounds=2))
    start = fresh("mlp")
    for number, _, tensors in log[1:]:
        masks = found[number - 1].masks
        for n, p in start.named_parameters():
            assert torch.equal(tensors[n], p * masks[n] if n in masks else p)


def test_rewinding_to_a_later_step():
    log, seen = [], []

    def train(model, round):
        training(log)(model, round)
        if round.number == 0:
            seen.append(round.hooks[0].tensors)

    found = list(secateur.iterative(fresh("mlp"), EXAMPLE, train, rounds=1, rewind_to=2))
    other = fresh("mlp")
    hook = secateur.sparsity.hold.Snapshot(2)
    fit(other, LOADER, RECIPE, hooks=[hook])
    assert log[1][1] == 2
    for n, t in hook.tensors.items():
        mask = found[0].masks.get(n)
        assert torch.equal(seen[0][n], t)
        assert torch.equal(log[1][2][n], t if mask is None else t * mask)


@pytest.mark.parametrize(("rewind", "start"), [("rate", 4), ("no", None)])
def test_weights_are_kept_where_only_the_schedule_is_rewound(rewind, start):
    log = []
    found = list(secateur.iterative(fresh("mlp"), EXAMPLE, training(log), rounds=1, rewind=rewind, rewind_to=4))
    dense = fresh("mlp")
    fit(dense, LOADER, RECIPE)
    assert log[1][1] == start
    for n, p in dense.named_parameters():
        mask = found[0].masks.get(n)
        assert torch.equal(log[1][2][n], p if mask is None else p * mask)


def test_the_control_is_the_same_mask_on_another_start():
    found = next(secateur.iterative(fresh("mlp"), EXAMPLE, training(), rounds=1))
    other = fresh("mlp", seed=9)
    with assert_unchanged(other):
        control = found.on(other)
    for n, p in other.named_parameters():
        expected = p * found.masks[n] if n in found.masks else p
        assert torch.equal(control.model.get_parameter(n), expected)
    assert control.counts == found.counts


def test_what_is_given_is_not_trained_on():
    rounds = secateur.iterative(fresh("mlp"), EXAMPLE, training(), rounds=2)
    first = next(rounds)
    before = remembered(first.model)
    next(rounds)
    assert all(torch.equal(t, before[n]) for n, t in remembered(first.model).items())


def test_global_rounds_and_other_criteria():
    data = [(x, torch.zeros(2, dtype=torch.long)) for x, _ in batches(EXAMPLE)]
    found = list(secateur.iterative(fresh("mlp"), EXAMPLE, still, rounds=2, scope="global", rate=0.5))
    assert [sum(c.zeros for c in s.counts.values()) for s in found] == [100, 150]  # of 199, to the nearest
    found = secateur.iterative(fresh("mlp"), EXAMPLE, still, rounds=1, criterion="snip", batches=data, exclude="4")
    assert set(next(found).masks) == {"0.weight", "2.weight"}


def test_the_last_layer_is_that_of_the_net_whatever_is_included():
    found = next(secateur.iterative(fresh("mlp"), EXAMPLE, still, rounds=1, include="0", rate=0.5))
    assert found.counts["0.weight"].zeros == 54
    found = next(secateur.iterative(fresh("mlp"), EXAMPLE, still, rounds=1, rate=0.5, last_rate="1/7"))
    assert found.counts["4.weight"].zeros == 4


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"rounds": 0}, BadOption, "rounds=0"),
        ({"rounds": 1, "rewind": "back"}, BadOption, "rewind='back'"),
        ({"rounds": 1, "rate": 20}, BadOption, "20 % are"),
        ({"rounds": 1, "scope": "row"}, BadOption, "scope='row'"),
        ({"rounds": 1, "scope": "global", "last_rate": 0.1}, BadOption, "last_rate=0.1"),
        ({"rounds": 1, "criterion": "sparsegpt"}, BadOption, "sets weights or counts by itself"),
        ({"rounds": 1, "criterion": Magnitude(deviations=1.0)}, BadOption, "sets weights or counts"),
        ({"rounds": 1, "rewind_to": -1}, TrainingError, "step=-1"),
        ({"rounds": 1, "exclude": "x"}, UnknownName, "'x'"),
    ],
)
def test_refused_when_asked_for_not_later(options, error, reason):
    with pytest.raises(error, match=reason):
        secateur.iterative(fresh("mlp"), EXAMPLE, still, **options)


def test_training_that_ignores_the_hooks_is_found_out():
    def careless(model, round):
        fit(model, LOADER, RECIPE)

    with pytest.raises(TrainingError, match=r"brought back weights of '0\.weight'.*round\.hooks"):
        next(secateur.iterative(fresh("mlp"), EXAMPLE, careless, rounds=1))
    with pytest.raises(TrainingError, match="before step 1"):
        next(secateur.iterative(fresh("mlp"), EXAMPLE, careless, rounds=1, rewind_to=1))
