"""Masked execution: what is reduced, is reduced over the kept indices, as the op on the sliced tensor is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import difference, random_plan, run
from nets import fill, images
from secateur.errors import VerificationError
from secateur.graph.example import tensors
from secateur.graph.record import Reduction
from secateur.groups.plan import Plan
from secateur.surgery.mask import _over_kept, masked_forward, select
from secateur.surgery.verify import double

KEPT = [0, 2, 3, 5]
ALIVE = torch.ones(20, dtype=torch.bool)
LABELS = np.arange(10, 16)
FIXED = np.zeros(3, dtype=np.int64)
ALIVE[torch.from_numpy(np.setdiff1d(LABELS, LABELS[KEPT]))] = False
aten = torch.ops.aten
X, W, B = images(3, 6).double(), images(6).double(), images(6).double() + 1

# op, arguments, and which of their axes hold the six labels; what it gives, too.
OPS = {
    "sum": (aten.sum.dim_IntList, (X, [1]), [(1,)], [()]),
    "sum, kept": (aten.sum.dim_IntList, (X, [1], True), [(1,)], [()]),
    "mean": (aten.mean.dim, (X, [-1]), [(1,)], [()]),
    "mean of all": (aten.mean.default, (X,), [(1,)], [()]),
    "amax": (aten.amax.default, (X, [1]), [(1,)], [()]),
    "var": (aten.var.correction, (X, [1]), [(1,)], [()]),
    "var_mean": (aten.var_mean.correction, (X, [1]), [(1,)], [(), ()]),
    "norm": (aten.linalg_vector_norm.default, (X, 2, [1]), [(1,)], [()]),
    "softmax": (aten._softmax.default, (X, 1, False), [(1,)], [(1,)]),
    "log_softmax": (aten._log_softmax.default, (X, 1, False), [(1,)], [(1,)]),
    "mv": (aten.mv.default, (X, W), [(1,), (0,)], [()]),
    "dot": (aten.dot.default, (W, B), [(0,), (0,)], [()]),
    "layer norm": (aten.native_layer_norm.default, (X, [6], W, B, 1e-5), [(1,), None, (0,), (0,)], [(1,), (), ()]),
    "layer norm, plain": (aten.native_layer_norm.default, (X, [6], None, None, 1e-5), [(1,)], [(1,), (), ()]),
    "group norm": (aten.native_group_norm.default, (X, W, B, 3, 6, 1, 1, 1e-5), [(1,), (0,), (0,)], [(1,), (), ()]),
    "weight norm": (aten._weight_norm_interface.default, (X, images(3, 1).double() + 2, 0), [(1,)], [(1,), ()]),
}


def labelled(tensor, places):
    return tuple(LABELS if d in places else np.zeros(n, dtype=np.int64) for d, n in enumerate(tensor.shape))


def record(case):
    op, args, read, _ = OPS[case]
    made = tensors(op(*args))
    inputs = tuple(
        labelled(a, (read[i] or ()) if i < len(read) else ()) if isinstance(a, torch.Tensor) else None
        for i, a in enumerate(args)
    )
    outputs = tuple(labelled(t, p) for t, p in zip(made, OPS[case][3], strict=True))
    return Reduction(str(op), "", inputs, outputs)


@pytest.mark.parametrize("case", OPS)
def test_a_reduction_is_that_of_the_sliced_tensor(case):
    op, args, _, _ = OPS[case]
    reduction = record(case)
    found = tensors(_over_kept(ALIVE, reduction, op, args, {}))
    cut = [a if axes is None else select(a, axes, ALIVE) for a, axes in zip(args, reduction.inputs, strict=True)]
    if "layer norm" in case:
        cut[1] = [4]
    if case == "group norm":
        cut[4] = 4
    wanted = tensors(op(*cut))
    for whole, axes, part in zip(found, reduction.outputs, wanted, strict=True):
        assert whole.shape == tuple(a.size for a in axes)
        assert torch.equal(select(whole, axes, ALIVE), part)
        gone = [d for d, a in enumerate(axes) if not ALIVE[torch.from_numpy(a)].all()]
        assert all((whole.index_select(d, torch.tensor([1, 4])) == 0).all() for d in gone)


@pytest.mark.parametrize("case", OPS)
def test_where_all_is_alive_the_op_runs_as_it_is(case):
    op, args, _, _ = OPS[case]
    everything = torch.ones(20, dtype=torch.bool)
    pairs = zip(tensors(_over_kept(everything, record(case), op, args, {})), tensors(op(*args)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("case", OPS)
def test_what_is_gone_may_hold_anything(case):
    op, args, read, _ = OPS[case]
    poisoned = []
    for i, a in enumerate(args):
        places = read[i] if i < len(read) else None
        poisoned.append(a.index_fill(places[0], torch.tensor([1, 4]), float("nan")) if places else a)
    found, wanted = (tensors(_over_kept(ALIVE, record(case), op, given, {})) for given in (tuple(poisoned), args))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_whole_groups_of_a_group_norm_that_are_gone():
    blocks = np.array([16, 17, 18])
    alive = ALIVE.clone()
    alive[torch.from_numpy(LABELS)] = torch.tensor([True, True, False, False, True, True])
    alive[17] = False
    op, args = aten.native_group_norm.default, (X, W, B, 3, 6, 1, 3, 1e-5)
    rows = (FIXED, LABELS)
    reduction = Reduction(
        str(op), "", (rows, (LABELS,), (LABELS,), *[None] * 5), (rows, (FIXED, blocks), (FIXED, blocks)), blocks
    )
    keep = torch.tensor([0, 1, 4, 5])
    wanted = op(X[:, keep], W[keep], B[keep], 3, 4, 1, 2, 1e-5)[0]
    assert torch.equal(_over_kept(alive, reduction, op, args, {})[0][:, keep], wanted)


def test_select_takes_kept_indices_and_lets_broadcast_ones_pass():
    axes = (FIXED, LABELS)
    assert torch.equal(select(X, axes, ALIVE), X[:, KEPT])
    assert torch.equal(select(X[:, :1], axes, ALIVE), X[:, :1])
    assert select(X, (), ALIVE) is X


class Normed(nn.Module):
    """A norm over channels that are cut, between two linear layers."""

    def __init__(self, norm, width=6):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(5, width), norm, nn.Linear(width, 3)

    def forward(self, x):
        return self.b(self.norm(self.a(x)))


class Attended(nn.Module):
    """A softmax over channels that are cut."""

    def forward(self, x):
        return x * x.softmax(-1)


def small_net(model, keep):
    """The smaller net by hand: slices of every tensor along the six channels."""
    made = Normed(type(model.norm)(*([len(keep)] if isinstance(model.norm, nn.LayerNorm) else ())), len(keep)).double()
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            given = model.get_parameter(name).double()
            for d, n in enumerate(tensor.shape):
                given = given if given.shape[d] == n else given.index_select(d, torch.tensor(keep))
            tensor.copy_(given)
    return made


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), Attended()])
def test_a_masked_model_is_the_small_one_made_by_hand(norm):
    model, x = fill(Normed(norm)), images(2, 5)
    g = secateur.trace(model, x)
    plan = Plan.keeping(g, {"a": KEPT})
    exact = fill(Normed(norm)).double()
    masked = tensors(masked_forward(exact, g.trace, double(x), torch.from_numpy(g.alive(plan.kept))))
    wanted = run(small_net(model, KEPT), x)
    assert difference(wanted, masked) < 1e-12
    assert difference(wanted, run(secateur.cut(g, plan).model, x)) < 1e-12


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(1, 6), nn.GroupNorm(3, 6), nn.GroupNorm(6, 6), nn.Softmax(-1)],
    ids=str,
)
def test_cuts_of_normed_channels_are_exact(norm):
    g = secateur.trace(fill(Normed(norm)), images(2, 5))
    for seed in range(3):
        assert secateur.cut(g, random_plan(g, seed)).check.max_error < 1e-9


def test_a_reduction_out_of_turn_is_another_path():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.swap = nn.Linear(5, 6), nn.Linear(6, 3), False

        def forward(self, x):
            x = self.a(x)
            one, two = (lambda: x.mean(1, keepdim=True)), (lambda: x.amax(1, keepdim=True))
            total = two() + one() if self.swap else one() + two()
            return self.b(F.relu(x - total))

    model, x = fill(Fickle()), images(2, 5)
    g = secateur.trace(model, x)
    alive = torch.from_numpy(g.alive({"a": np.array(KEPT)}))
    masked_forward(model, g.trace, x, alive)
    model.swap = True
    with pytest.raises(VerificationError, match=r"another path.*aten\.amax.*out of turn"):
        masked_forward(model, g.trace, x, alive)


def test_a_function_seen_whole_out_of_turn_is_another_path():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.r, self.b, self.skip = nn.GRU(5, 6), nn.Linear(6, 3), False

        def forward(self, x):
            y = self.r(x)[0]
            return self.b(self.r(x)[0] if self.skip else y)

    model, x = fill(Fickle()), images(2, 2, 5)
    g = secateur.trace(model, x)
    model.skip = True
    with pytest.raises(VerificationError, match=r"another path.*gru"):
        masked_forward(model, g.trace, x, torch.from_numpy(g.alive({})))
