"""Batches of no examples: alone they leave a criterion without evidence, beside others they change nothing."""

import pytest
import torch

import secateur
from nets import graph, images
from secateur.errors import BadModel, NeedsData

CRITERIA = ["apoz", "mean-activation", "activation-std", "activation-norm", "pfa", "hrank", "nisp"]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_no_examples(criterion):
    g, x = graph("plain"), images(6, 1, 8, 8)
    expected = secateur.score(g, criterion, batches=[(x, None)])
    found = secateur.score(g, criterion, batches=[(x[:0], None), (x, None), (x[:0], None)])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises((BadModel, NeedsData)):
        secateur.score(g, criterion, batches=[(x[:0], None)])
