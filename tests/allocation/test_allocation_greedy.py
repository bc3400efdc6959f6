"""Steps, one after another: by hand, and what they do when there are none left."""

import torch
from torch import nn

import secateur
from secateur.allocation.greedy import met, stepwise
from secateur.cost.cost import CostModel


def chain():
    """MACs 10a + ab + 10b, whole 300."""
    layers = (nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10))
    return secateur.trace(nn.Sequential(*layers), torch.zeros(1, 10))


WHOLE = {"0": 10, "2": 10}
STEPS = {"0": [(10, 0.0), (5, 1.0)], "2": [(10, 0.0), (8, 0.0), (2, 0.9)]}


def test_what_costs_nothing_goes_first_and_then_by_drop_for_what_is_saved():
    """0 to 5 saves 90 for 1, and then 2 to 2 saves 90 for 0.9; before it 2 to 2 saves 108."""
    cost = CostModel(chain())
    for limit, widths in ((299, (10, 8)), (260, (10, 8)), (259, (10, 2)), (140, (10, 2)), (139, (5, 2)), (80, (5, 2))):
        assert tuple(stepwise(STEPS, WHOLE, cost, {"macs": limit}).values()) == widths
    assert stepwise(STEPS, WHOLE, cost, {"macs": 79}) is None
    assert stepwise(STEPS, WHOLE, cost, {"macs": 300}) == WHOLE
    assert stepwise({"2": STEPS["2"]}, {"0": 7, "2": 10}, cost, {"macs": 200}) == {"0": 7, "2": 2}


def test_steps_are_left_as_they_were():
    before = {name: list(held) for name, held in STEPS.items()}
    stepwise(STEPS, WHOLE, CostModel(chain()), {"macs": 100})
    assert before == STEPS
    assert WHOLE == {"0": 10, "2": 10}


def test_all_limits_count():
    cost = CostModel(chain()).dense()
    assert met(cost, {"macs": 300, "params": 330})
    assert not met(cost, {"macs": 300, "params": 329})
    assert met(cost, {})
