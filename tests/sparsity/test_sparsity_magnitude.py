import pytest
import torch
from sparsity_cases import layer, noise

import secateur
from nets import ALL, fresh
from secateur.errors import BadOption
from secateur.sparsity.magnitude import Magnitude

X = noise(2, 10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_smallest_go_and_exactly_so_many(dtype):
    weight = noise(7, 10).to(dtype)
    for sparsity in (0.1, 0.5, 0.9, "0.333"):
        found = secateur.sparsify(layer(weight), X.to(dtype), sparsity=sparsity)
        mask = found.masks["weight"]
        assert int((~mask).sum()) == int((found.model.weight == 0).sum()) == int(float(sparsity) * 70)
        assert weight.abs()[~mask].max() <= weight.abs()[mask].min()
        assert torch.equal(found.model.weight[mask], weight[mask])
        assert found.model.weight.dtype == dtype


def test_equal_weights_go_by_their_place():
    weight = torch.ones(2, 10, dtype=torch.float64)
    mask = secateur.sparsify(layer(weight), X, sparsity=0.9).masks["weight"]
    assert (~mask).flatten().int().tolist() == [1] * 18 + [0] * 2
    mask = secateur.sparsify(layer(weight), X, sparsity=0.9, scope="row").masks["weight"]
    assert mask.int().tolist() == [[0] * 9 + [1]] * 2


def test_zeros_that_are_there_go_first():
    weight = noise(2, 10)
    weight[1, 3:] = 0
    found = secateur.sparsify(layer(weight), X, sparsity=0.2)
    assert int((found.model.weight == 0).sum()) == 7
    assert (~found.masks["weight"]).nonzero().tolist() == [[1, 3], [1, 4], [1, 5], [1, 6]]


def test_global_is_one_ranking():
    model, x = fresh("mlp"), ALL["mlp"].example
    found = secateur.sparsify(model, x, sparsity=0.6, scope="global")
    weights = [p.abs().flatten() for n, p in model.named_parameters() if n in found.masks]
    kept = torch.cat([m.flatten() for m in found.masks.values()])
    every = torch.cat(weights)
    assert int((~kept).sum()) == int(0.6 * every.numel())
    assert every[~kept].max() <= every[kept].min()


@pytest.mark.parametrize("quality", [0.3, 1.0])
def test_the_threshold_of_han(quality):
    model, x = fresh("mlp"), ALL["mlp"].example
    found = secateur.sparsify(model, x, criterion=Magnitude(deviations=quality))
    for name, mask in found.masks.items():
        weight = model.get_parameter(name).detach().double()
        limit = quality * (weight - weight.mean()).square().mean().sqrt()
        assert torch.equal(mask, weight.abs() >= limit)
    assert f"deviations={quality}" in found.how


def test_the_threshold_says_how_many():
    with pytest.raises(BadOption, match="itself says how many"):
        secateur.sparsify(layer(noise(3, 10)), X, criterion=Magnitude(deviations=1.0), sparsity=0.5)
    for bad in (0, -1, float("inf"), float("nan")):
        with pytest.raises(BadOption, match="deviations="):
            Magnitude(deviations=bad)
