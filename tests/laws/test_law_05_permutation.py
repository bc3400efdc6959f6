"""Law 5: permuting units permutes scores."""

from dataclasses import replace

import pytest
import torch

import secateur
from held import WIDE, batches, loss
from nets import HAND, OURS, graph
from secateur.errors import BadModel
from secateur.testing import check_criterion, permuted

READING = [n for n in WIDE if secateur.criteria()[n].needs]  # the others read nothing that could be permuted
WITHOUT_NORM = {"nonorm", "mlp", "flat", "twice", "tied", "squeeze", "named", "transposed", "raw"}
REFUSED = {
    "bn-scale": WITHOUT_NORM,
    "taylor-bn": WITHOUT_NORM,
    "apoz": {"mlp", "named"},
    "hrank": {"flat", "squeeze", "mlp", "mlpnorm", "tied", "raw", "named", "small-vgg"},
    "nisp": {"squeeze"},
}
REASON = {
    "bn-scale": "no batch norm",
    "taylor-bn": "no batch norm",
    "apoz": "mean-activation",
    "hrank": "feature maps",
    "nisp": "no linear surrogate",
}
CASES = [(n, c) for n in HAND | OURS for c in READING]


def scores_of(g, criterion):
    return secateur.score(g, criterion, batches=batches(g.example), loss=loss)


@pytest.mark.parametrize(("name", "criterion"), CASES)
def test_permuted_units_have_permuted_scores(name, criterion):
    g = graph(name)
    other, orders = permuted(g)
    if name in REFUSED.get(criterion, {}):
        with pytest.raises(BadModel, match=REASON[criterion]):
            scores_of(g, criterion)
        return
    if "inputs_gram" in secateur.criteria()[criterion].needs and name in ("grouped", "transposed"):
        with pytest.raises(BadModel, match="no inputs_gram"):
            scores_of(g, criterion)
        return
    scores = scores_of(g, criterion)
    found = scores_of(secateur.trace(other, g.example), criterion)
    for group in g.groups:
        expected = scores[group.name][orders[group.name]]
        torch.testing.assert_close(found[group.name], expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("criterion", READING)
def test_permuting_one_group_leaves_the_scores_of_the_others(criterion):
    g = graph("digits-resnet")
    one = next(x for x in g.groups if x.name == "layer2.0.conv1")
    other, _ = permuted(replace(g, groups=(one,)))
    scores, found = scores_of(g, criterion), scores_of(secateur.trace(other, g.example), criterion)
    assert not torch.equal(found[one.name], scores[one.name])
    for group in g.groups:
        if group is not one:
            torch.testing.assert_close(found[group.name], scores[group.name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("criterion", sorted(secateur.criteria()))
def test_the_contract_that_third_parties_run(criterion):
    check_criterion(criterion)
