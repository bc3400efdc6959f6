"""What holds of every odd net: cut exactly, in all that can be, or refused by name in what cannot."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import ClassVar

import torch
from odd_case import CASES, graph, new, prunable, silenced

import secateur
from held import assert_unchanged, difference, loss, random_plan, run, tensors_of
from secateur.graph.example import call, map_tensors


def cases_of(*modules: ModuleType) -> tuple[str, ...]:
    """The cases that these files entered."""
    return tuple(n for n, c in CASES.items() if sys.modules[c.build.__module__] in modules)


class Laws:
    """Subclasses name their cases; `conftest.py` runs each law on each."""

    cases: ClassVar[tuple[str, ...]] = ()

    def test_what_can_be_cut_is_found(self, name):
        """Groups and units that were worked out by hand; what is frozen says why."""
        case, g = CASES[name], graph(name)
        found = prunable(g)
        short = {
            place: (found.get(place, 0), wanted) for place, wanted in case.axes.items() if found.get(place, 0) < wanted
        }
        assert short == {}, f"found, wanted; {g.coverage()}"
        assert len(g.groups) >= case.groups, str(g.coverage())
        assert all(f.reason and f.size for f in g.frozen)

    def test_what_must_stay_is_named_with_the_reason(self, name):
        g = graph(name)
        for layer, reason in CASES[name].frozen.items():
            told = [f.reason for f in g.frozen if f.name.startswith(layer)]
            assert told, f"nothing is frozen that {layer} writes; {g.coverage()}"
            assert any(reason in t for t in told), told

    def test_cuts_are_exact(self, name):
        """A random part of each group, and a single unit; the law on training cuts to a half."""
        g = graph(name)
        for seed, keep in enumerate((None, 0.0)):
            exact(name, random_plan(g, seed=seed, keep=keep))

    def test_every_group_can_lose_one_unit_alone(self, name):
        g = graph(name)
        whole = run(g.model, g.example)
        for group in (x for x in g.groups if x.size > 1):
            gone = group.size // 2
            plan = secateur.Plan.keeping(g, {group.name: [u for u in range(group.size) if u != gone]})
            assert difference(whole, run(exact(name, plan, again=False).model, g.example)) > 1e-6, group

    def test_a_cut_model_is_smaller_trains_and_takes_another_batch(self, name):
        """It also gives something else than the net, without which exactness would say nothing."""
        case, g, whole = CASES[name], graph(name), new(name)
        pruned = exact(name, random_plan(g, seed=2, keep=0.5), again=False)
        before, after = (sum(p.numel() for p in m.parameters()) for m in (g.model, pruned.model))
        assert (pruned.before.params, pruned.after.params) == (before, after)
        assert after < before
        assert difference(run(g.model, g.example), run(pruned.model, g.example)) > 1e-6
        if case.batch is not None:
            more = map_tensors(g.example, lambda t: torch.cat([t, t.flip(case.batch), t], case.batch))
            assert [t.shape for t in run(pruned.model, more)] == [t.shape for t in run(g.model, more)]
        small = pruned.model.train()
        for model in (small, whole):
            loss(call(model, g.example), None).backward()
        assert reached(small) == reached(whole)
        assert all(p.grad is None or (p.grad.shape == p.shape and p.grad.isfinite().all()) for p in small.parameters())

    def test_a_budget_is_met(self, name):
        """The whole sentence, with no options, by a budget that whole units can meet."""
        model = new(name)
        with assert_unchanged(model):
            budget = secateur.Budget(params=0.93)
            pruned = secateur.prune(model, CASES[name].example, budget=budget, kinds=CASES[name].kinds)
        assert pruned.check.max_error <= 1e-6
        assert type(pruned.model) is type(model)
        assert pruned.after.params == sum(p.numel() for p in pruned.model.parameters()) <= 0.93 * pruned.before.params
        assert all(t.isfinite().all() for t in tensors_of(pruned.model).values() if t.is_floating_point())


def exact(name, plan, *, again=True):
    """One cut, held against a reference that knows nothing of secateur; the net is left untouched.

    `again`: also against secateur's own reference, which is always asked where there is no other.
    """
    g, silent = graph(name), CASES[name].reference != "none"
    with assert_unchanged(g.model):
        pruned = secateur.cut(g, plan, verify="full" if again or not silent else "off")
    assert pruned.check.max_error <= 1e-6 or (silent and not again)
    if silent:
        wanted, got = run(silenced(name, g, plan), g.example), run(pruned.model, g.example)
        assert difference(wanted, got) < 1e-9
    return pruned


def reached(model):
    """Parameters that a gradient came to."""
    return {n for n, p in model.named_parameters() if p.grad is not None}
