"""Law 1 has teeth: one wrong index anywhere, and nothing comes out."""

import sys

import numpy as np
import pytest
import torch

import secateur
from held import assert_unchanged, random_plan
from nets import ALL, HAND, fresh, graph
from secateur.errors import SecateurWarning, VerificationError
from secateur.groups.plan import Plan
from secateur.surgery.cut import Edits, edits

STEP = sys.modules["secateur.prune"]  # the package's name `prune` is the function
SMALL = [n for n in HAND if n != "named"]


def wrong_index(work, tensor, axis, size):
    """The same edits, but one kept position of one axis of one tensor is another one."""
    kept = work.indices[tensor][axis]
    other = np.setdiff1d(np.arange(size), kept)[0]
    changed = np.sort(np.append(kept[1:], other))
    return Edits({**work.indices, tensor: {**work.indices[tensor], axis: changed}}, work.attributes)


@pytest.mark.parametrize("name", SMALL)
def test_one_wrong_index_of_one_axis_of_one_tensor_is_found(name, monkeypatch):
    g = graph(name)
    plan = random_plan(g, seed=1, keep=0.6)
    work = edits(g, plan)
    sizes = {n: t.shape for n, t in (*g.model.named_parameters(), *g.model.named_buffers())}
    tried = 0
    for tensor, axes in work.indices.items():
        for axis in axes:
            wrong = wrong_index(work, tensor, axis, sizes[tensor][axis])
            monkeypatch.setattr(STEP, "edits", lambda *_, wrong=wrong: wrong)
            with assert_unchanged(g.model), pytest.raises(VerificationError, match="relative error"):
                secateur.cut(g, plan)
            tried += 1
    assert tried >= 2


def test_in_place_a_wrong_index_leaves_the_model_as_it_was(monkeypatch):
    model = fresh("padded")
    example = ALL["padded"].example

    def wrong(g, plan):
        work = edits(g, plan)
        return wrong_index(work, "b.0.weight", 0, 10) if 0 in work.indices.get("b.0.weight", {}) else work

    monkeypatch.setattr(STEP, "edits", wrong)
    with (
        assert_unchanged(model),
        pytest.raises(SecateurWarning, match=r"left whole.*'b\.0'"),
    ):  # an error in these tests
        secateur.prune_(model, example, budget=secateur.Budget(macs=0.6))


def test_a_wrong_attribute_is_found(monkeypatch):
    g = graph("padded")
    plan = Plan.keeping(g, {"b.0": [1, 2, 3]})  # before 0, after 3
    work = edits(g, plan)
    swapped = {
        a: work.attributes.get(a, v) + (1 if a.name == "before" else -1)
        for a, v in g.trace.attributes.items()
        if a.name in ("before", "after")
    }
    monkeypatch.setattr(STEP, "edits", lambda *_: Edits(work.indices, swapped))
    with assert_unchanged(g.model), pytest.raises(VerificationError):
        secateur.cut(g, plan)


def test_a_wrong_number_of_indices_is_a_verification_error(monkeypatch):
    g = graph("plain")
    plan = random_plan(g, keep=0.6)
    work = edits(g, plan)
    short = {**work.indices, "two.0.weight": {**work.indices["two.0.weight"], 1: work.indices["two.0.weight"][1][:-1]}}
    monkeypatch.setattr(STEP, "edits", lambda *_: Edits(short, work.attributes))
    with pytest.raises(VerificationError):
        secateur.cut(g, plan)


def test_whole_number_outputs_are_compared(monkeypatch):
    class Classes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = fresh("mlp")

        def forward(self, x):
            return self.net(x).argmax(1)

    g = secateur.trace(Classes(), torch.randn(64, 12, generator=torch.Generator().manual_seed(0)))
    plan = random_plan(g, keep=0.4)
    wrong = wrong_index(edits(g, plan), "net.4.weight", 1, 7)
    monkeypatch.setattr(STEP, "edits", lambda *_: wrong)
    with pytest.raises(VerificationError):
        secateur.cut(g, plan)
