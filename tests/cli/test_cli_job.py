"""The work behind `secateur prune` and `secateur plan`."""

from dataclasses import replace

import pytest
import torch

from secateur.cli import choice, job
from secateur.cost.budget import Budget
from secateur.errors import NeedsData

SUBJECT = ("digits-resnet", None, None, None, None)


def task(data=None, method=("l2", None), **more):
    by = choice.choose(None, *method, None)
    return replace(
        job.Job(*SUBJECT, data, by, Budget(macs=0.5), 64, "none", job.NO_TRAINING, 0), **more
    )  # a quarter second each


def test_data_and_why_it_is_needed():
    assert job.load_data(None, None) is None
    assert job.load_data("digits", None).name == "digits"
    with pytest.raises(NeedsData, match="because: give --data"):
        job.load_data(None, "because")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": ("taylor", "ranked:per_macs=1"), "data": "digits"},
        {"method": ("thinet", None), "data": "digits"},  # chooses units by itself
        {"steps": 2, "schedule": "cubic"},
    ],
    ids=str,
)
def test_what_is_planned_is_what_work_cuts(options):
    data = job.load_data(options.pop("data", None), None)
    asked = task(data, **options)
    graph = job.read(asked)
    plan, scores = job.planned(asked, graph)
    assert plan == job.work(asked).pruned.plan
    assert {name: values.shape for name, values in scores.items()} == {g.name: (g.size,) for g in graph.groups}


def test_steps_score_anew():
    """Other units than at once, the same cost; the plan is one of the dense model."""
    once, steps = task(method=("group-norm", None)), task(method=("group-norm", None), steps=4)
    graph = job.read(once)
    one, other = job.planned(once, graph)[0], job.planned(steps, graph)[0]
    assert one != other
    other.check(graph)
    done = job.work(steps)
    assert done.pruned.after.macs <= 0.5 * done.pruned.before.macs
    assert torch.equal(done.graph.model.conv1.weight, graph.model.conv1.weight)
