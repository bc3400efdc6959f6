"""What is refused, whole or in part, says why; and a trace, a cut or a refusal leaves nothing behind."""

import inspect
import re

import pytest
import torch
import torch.nn.functional as F
from odd_all import CASES
from odd_case import FLAT, SQUARE, WORDS, filled, new, refusal
from torch import nn

import secateur
from held import assert_unchanged, random_plan
from nets import images
from secateur.errors import BadModel, SecateurError, TraceError

HALF = secateur.Budget(params=0.7)


class Hidden(nn.Module):
    """A hidden layer, and what subclasses do to it."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(12, 7), nn.Linear(7, 6), nn.Linear(6, 3)

    def between(self, x):
        return x

    def forward(self, x):
        return self.head(F.relu(self.two(self.between(F.relu(self.one(x))))))


# --- an example that does not fit ------------------------------------------------------------------------------------
MISFITS = {
    "channels": ("Stream", images(2, 3, 8, 8)),
    "dimensions": ("Stream", images(8)),
    "width": ("Einsum", images(2, 5, 11)),
    "too many": ("Dictionary", (FLAT, FLAT)),
    "too few": ("TwoInputs", (SQUARE,)),
    "a name": ("TwoInputs", {"image": SQUARE, "text": WORDS}),
    "a type": ("TiedHead", WORDS),
    "an assertion": ("Asserted", images(2, 5, 9)),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_example_that_does_not_fit_is_the_models_own_error(case):
    """The very error that the model raises by itself: its type and text, not wrapped, and no cause of ours."""
    name, example = MISFITS[case]
    with pytest.raises(Exception) as own:
        secateur.graph.example.call(new(name).eval(), example)
    model = new(name)
    with assert_unchanged(model), pytest.raises(type(own.value)) as ours:
        secateur.prune(model, example, budget=HALF)
    assert type(ours.value) is type(own.value)
    assert not isinstance(ours.value, SecateurError)
    assert ours.value.__cause__ is None
    if isinstance(own.value, (TypeError, AssertionError)):
        assert str(ours.value) == str(own.value)


# --- a forward that looks at values ----------------------------------------------------------------------------------
class BySum(Hidden):
    def between(self, x):
        if x.sum() > 3:
            return -x
        return x


class ByItem(Hidden):
    def between(self, x):
        return x * (2 if x.mean().item() > 0 else 3)


class ByLength(Hidden):
    def between(self, x):
        return x[x[:, 0] > 0].sum(0) + x


class ByLoop(Hidden):
    def between(self, x):
        while x.abs().max() > 1:
            x = x / 2
        return x


class ByNonzero(Hidden):
    def between(self, x):
        best = torch.nonzero(x[:, 0] > 0)
        return x + len(best)


class ByList(Hidden):
    def between(self, x):
        return x + x.mean(0).tolist()[0]


class Routed(nn.Module):
    """Mixtral: each expert sees only the words that chose it."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.head = nn.Linear(12, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in range(3))

    def forward(self, x):
        x = self.stem(x).flatten(0, 1)
        share, chosen = self.gate(x).softmax(-1).topk(2)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            word, place = torch.where(chosen == i)
            y.index_add_(0, word, expert(x[word]) * share[word, place, None])
        return self.head(y)


BRANCHES = {
    BySum: "if x.sum() > 3:",
    ByItem: "x.mean().item()",
    ByLength: "x[x[:, 0] > 0]",
    ByLoop: "while x.abs().max() > 1:",
    ByNonzero: "torch.nonzero(",
    ByList: "x.mean(0).tolist()",
}


def line_of(cls, text):
    """The number of the line of a class that holds a text."""
    lines, start = inspect.getsourcelines(cls)
    return start + next(i for i, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("cls", BRANCHES, ids=lambda cls: cls.__name__)
def test_a_forward_that_decides_by_values_is_refused_with_its_line(cls):
    """File and line of the author's code, not of torch's or ours."""
    model = filled(cls())
    with assert_unchanged(model), pytest.raises(TraceError, match="values") as caught:
        secateur.prune(model, FLAT, budget=HALF)
    assert re.search(rf"test_odd_refused\.py\W+(line )?{line_of(cls, BRANCHES[cls])}\b", str(caught.value))


def test_experts_that_see_only_their_words_are_cut_exactly_or_refused_by_name():
    model = filled(Routed())
    with assert_unchanged(model):
        told = refusal(TraceError, lambda: secateur.trace(model, WORDS))
    if told is not None:
        assert "values" in told
        assert "test_odd_refused.py" in told
        return
    g = secateur.trace(model, WORDS)
    assert secateur.cut(g, random_plan(g, keep=0.5)).check.max_error <= 1e-6


# --- what cannot be copied -------------------------------------------------------------------------------------------
def test_weight_norm_by_hook_is_refused_by_name_or_cut_exactly():
    """torch itself cannot copy a module whose weight is a computed tensor."""
    model = Hidden()
    torch.nn.utils.weight_norm(model.one)
    model = filled(model)

    def cut():
        assert secateur.prune(model, FLAT, budget=HALF, criterion="random").check.max_error <= 1e-6

    with assert_unchanged(model):
        assert "cannot be copied" in (refusal(BadModel, cut) or "cannot be copied")


def test_everything_is_named_even_where_nothing_can_go():
    """A model in which all must stay is traced, and a prune of it is refused with the reason."""

    class Stays(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.two(self.one(x).cumsum(-1))

    model = filled(Stays())
    g = secateur.trace(model, FLAT)
    assert g.groups == ()
    assert "aten.cumsum" in str(g.coverage())
    assert CASES["NoRule"].frozen["two"] in str(g.coverage())
    with assert_unchanged(model), pytest.raises(SecateurError):
        secateur.prune(model, FLAT, budget=HALF)
