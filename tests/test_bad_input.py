"""Bad input, each with its own message, and nothing changed."""

import errno
import os
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import secateur
from held import assert_unchanged, random_plan, same_weights
from nets import ALL, fill, fresh, graph
from secateur import files
from secateur.errors import (
    BadBudget,
    BadExample,
    BadModel,
    BudgetUnreachable,
    CheckpointError,
    NeedsData,
    NothingToDo,
    PlanError,
    SecateurError,
    UnknownName,
    WrongArchitecture,
)
from secateur.groups.plan import Keep, Plan

HALF = secateur.Budget(macs=0.5)
X = ALL["plain"].example


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), float("inf")])
def test_budgets_that_make_no_sense(value):
    with pytest.raises(BadBudget, match=r"macs=.* is no budget; give the fraction to keep"):
        secateur.Budget(macs=value)


def test_a_budget_of_nothing():
    with pytest.raises(BadBudget, match="names nothing"):
        secateur.Budget()
    model = fresh("plain")
    with assert_unchanged(model), pytest.raises(BadBudget, match="needs a budget"):
        secateur.prune(model, X)


def test_a_budget_below_the_least_says_the_least():
    model = fresh("plain")
    with assert_unchanged(model), pytest.raises(BudgetUnreachable) as caught:
        secateur.prune_(model, X, budget=secateur.Budget(macs=1e-4))
    macs = 2 * (64 * 9 * 2 + 10)  # one channel in each of two layers
    assert f"at least {macs} ({macs / (2 * (64 * 9 * 56 + 60)):.4g} of dense)" in str(caught.value)
    assert "macs=0.0001" in str(caught.value)


def test_a_budget_above_the_dense_cost():
    model = fresh("plain")
    with assert_unchanged(model), pytest.raises(NothingToDo, match=r"nothing to do: the dense model \(64.63 k MACs"):
        secateur.prune_(model, X, budget=secateur.Budget(macs=1e9))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"criterion": "tailor"}, "no criterion 'tailor'.*Did you mean 'taylor'"),
        ({"allocator": "unifrom"}, "no allocator 'unifrom'.*Did you mean 'uniform'"),
        ({"frozen": ["won"]}, "no module or parameter 'won'.*Did you mean"),
    ],
)
def test_unknown_names_suggest_the_nearest(options, reason):
    model = fresh("plain")
    with assert_unchanged(model), pytest.raises(UnknownName, match=reason):
        secateur.prune_(model, X, budget=HALF, **options)


def test_no_data_for_a_criterion_that_needs_it():
    model = fresh("plain")
    with assert_unchanged(model), pytest.raises(NeedsData, match="gradients must be collected: give batches="):
        secateur.prune_(model, X, budget=HALF, criterion="taylor")


@pytest.mark.parametrize("example", [None, "image", 3, (), {}, {"x": 3}])
def test_examples_that_are_none(example):
    model = fresh("plain")
    with assert_unchanged(model), pytest.raises(BadExample):
        secateur.prune_(model, example, budget=HALF)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 8), (8,)])
def test_an_example_of_the_wrong_shape_is_the_models_own_error(shape):
    model = fresh("plain")
    with pytest.raises(Exception) as own:
        fresh("plain").eval()(torch.zeros(shape))
    with assert_unchanged(model), pytest.raises(type(own.value)) as ours:
        secateur.prune_(model, torch.zeros(shape), budget=HALF)
    assert not isinstance(ours.value, SecateurError)
    assert ours.value.__cause__ is None


def test_keyword_inputs_with_a_wrong_name():
    model = fresh("named")
    with assert_unchanged(model), pytest.raises(TypeError, match="unexpected keyword argument 'token'"):
        secateur.trace(model, {"token": torch.zeros(2, 4)})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_model_of_another_dtype_than_the_example(dtype):
    model = fresh("nonorm").to(dtype)
    with assert_unchanged(model), pytest.raises(RuntimeError, match="type"):
        secateur.prune_(model, X, budget=HALF)


@pytest.mark.parametrize("poison", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(poison):
    model = fresh("plain")
    model.two[0].weight.data[0, 0, 0, 0] = poison
    with assert_unchanged(model), pytest.raises(BadModel, match=r"two\.0\.weight holds NaN or infinity"):
        secateur.prune_(model, X, budget=HALF)


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ((Keep(group="one.0", units=(0, 8)),), "'one.0' has 8 units, the plan asks for unit 8"),
        ((Keep(group="one.0", units=(0,)), Keep(group="one.0", units=(1,))), "units of group 'one.0' twice"),
        ((Keep(group="head.linear", units=(0,)),), "'head.linear' is frozen"),
    ],
)
def test_plans_that_do_not_fit(edits, reason):
    g = graph("plain")
    with assert_unchanged(g.model), pytest.raises(PlanError, match=reason.replace(".", r"\.")):
        secateur.cut(g, Plan(edits=edits))


def test_a_plan_that_keeps_nothing_of_a_group():
    with pytest.raises(PlanError, match="a group must keep at least one unit"):
        Plan.keeping(graph("plain"), {"one.0": []})


def test_an_empty_plan_keeps_everything():
    g = graph("plain")
    assert same_weights(secateur.cut(g, Plan()).model, g.model)


# --- files ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def stored(tmp_path):
    g = graph("mlp")
    pruned = secateur.cut(g, random_plan(g, keep=0.5))
    path = tmp_path / "model.safetensors"
    secateur.save(pruned, path)
    return path, pruned


def assert_refused(path, error=CheckpointError, match=None):
    into = fresh("mlp", seed=1)
    with assert_unchanged(into), pytest.raises(error, match=match) as caught:
        secateur.load(path, into=into)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_a_file_cut_short_anywhere(stored):
    path, _ = stored
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert_refused(path)


def test_one_flipped_bit_of_any_byte(stored):
    path, pruned = stored
    whole = path.read_bytes()
    bits = np.random.default_rng(0).integers(0, 8, len(whole))
    into = fresh("mlp", seed=1)
    accepted = []
    for i, bit in enumerate(bits.tolist()):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ (1 << bit)]) + whole[i + 1 :])
        try:
            secateur.load(path, into=into)
        except CheckpointError:
            continue
        accepted.append(i)
    assert accepted == []
    path.write_bytes(whole)
    assert same_weights(secateur.load(path, into=into), pruned.model)


def test_a_file_that_is_not_there(tmp_path):
    assert_refused(tmp_path / "absent.safetensors", match="cannot read")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    assert_refused(tmp_path / "model.safetensors")


def test_files_of_others(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(fresh("mlp").state_dict(), path)
    assert_refused(path, match="was not written by secateur")
    path.write_bytes(b"PK\x03\x04 not safetensors at all")
    assert_refused(path)
    files.write(path, "checkpoint", {"x": torch.zeros(2)}, {})
    assert_refused(path, match="holds a checkpoint, not a pruned model")


def test_a_file_of_a_later_version(stored):
    path, _ = stored
    tensors, facts = files.read(path, "pruned model")
    files.write(path, "pruned model", tensors, facts | {"format": 99})
    assert_refused(path, match="format 99; this version reads 1")


def test_a_file_with_a_plan_that_cannot_be_read(stored):
    path, _ = stored
    tensors, facts = files.read(path, "pruned model")
    files.write(path, "pruned model", tensors, facts | {"plans": [{"edits": [{"edit": "saw"}]}]})
    assert_refused(path, match="plan that cannot be read")


class Wider(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 8, bias=False), nn.Tanh(), nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("into", "mismatch"),
    [
        (Wider, r"2\.weight is \[7, 9\] in the file and \[8, 9\] in the model"),
        (ALL["plain"].build, r"0\.weight is \[9, 12\] in the file and absent in the model"),
    ],
)
def test_the_wrong_architecture_names_the_first_mismatch(stored, into, mismatch):
    path, _ = stored
    model = fill(into())
    with assert_unchanged(model), pytest.raises(WrongArchitecture, match=mismatch):
        secateur.load(path, into=model)


def test_a_pruned_model_is_no_fresh_instance(stored):
    path, pruned = stored
    with assert_unchanged(pruned.model), pytest.raises(WrongArchitecture, match="unpruned instance"):
        secateur.load(path, into=pruned.model)


def test_a_full_disk_keeps_the_file_before(stored, monkeypatch):
    path, pruned = stored
    before = path.read_bytes()

    def full(tensors, where, header):
        where.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with assert_unchanged(pruned.model), pytest.raises(CheckpointError, match="No space left on device"):
        secateur.save(pruned, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_the_system_stops(stored):
    """A limit on the size of files, in a process of its own: the write fails half way, for real."""
    path, pruned = stored
    before = path.read_bytes()
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))
            secateur.save(pruned, path)
        except CheckpointError as error:
            code = 0 if "cannot write" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written(stored):
    path, pruned = stored
    with pytest.raises(CheckpointError, match="cannot write"):
        secateur.save(pruned, path / "below a file" / "model.safetensors")


def test_an_example_that_cannot_be_stored_is_refused_when_cutting():
    """Not when saving, after all the work: the origin is made with the cut."""

    class Takes(nn.Linear):
        def forward(self, x, how):
            return super().forward(x)

    net = fill(Takes(3, 2))
    g = secateur.trace(net, (torch.zeros(1, 3), slice(2)))
    with pytest.raises(BadExample, match="slice cannot be stored"):
        secateur.cut(g, Plan())


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (nn.DataParallel, "wrapped in DataParallel; give what it wraps"),
        (lambda m: torch.jit.trace(m, torch.zeros(1, 12)), "ScriptModule"),
        (lambda m: m.forward, "no torch.nn.Module"),
    ],
    ids=["parallel", "script", "function"],
)
@pytest.mark.parametrize("verb", [secateur.prune, secateur.prune_])
def test_what_is_no_plain_module_is_refused_by_name(verb, wrap, reason):
    model = wrap(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)))
    with pytest.raises(BadModel, match=reason):
        verb(model, torch.zeros(1, 12), budget=secateur.Budget(macs=0.5))
