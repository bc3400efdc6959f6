"""`secateur inspect --redundancy`: all three statistics of each group and layer, as the library has them."""

import json
import math

import pytest
import torch

from nets import graph
from secateur.cli.redundancy import CAVEAT, redundancy
from secateur.criteria.redundancy import of_group, of_kernels, of_layers
from secateur.evidence.base import Evidence


def test_all_statistics_of_every_group_and_layer():
    g = graph("padded")
    found = {group["name"]: group for group in redundancy(g)["groups"]}
    assert list(found) == [group.name for group in g.groups]
    for group in g.groups:
        joined, layers = of_group(group, Evidence(g.model)), of_layers(group, Evidence(g.model))
        told = found[group.name]
        for field in ("spectral", "similar", "magnitude", "combined", "chance_spectral", "chance_similar"):
            assert told[field] == getattr(joined, field)
            assert [x[field] for x in told["layers"]] == [getattr(x, field) for x in layers.values()]
        assert [x["weight"] for x in told["layers"]] == list(layers)
        assert [x["kernels"] for x in told["layers"]] == [of_kernels(g.model.get_parameter(n)) for n in layers]
    assert len(found["stem.0"]["layers"]) == 2
    assert sum(x["relative"] for x in found.values()) / len(found) == pytest.approx(1)


def test_kernels_of_a_convolution_by_numpy_and_none_of_a_linear_layer():
    g = graph("plain")
    kernels = g.model.one[0].weight.detach().double().reshape(-1, 9)
    p = torch.linalg.svdvals(kernels / kernels.norm(dim=1, keepdim=True)).square()
    p = (p / p.sum()).numpy()
    expected = 1 - math.exp(-(p * torch.tensor(p).log().numpy()).sum()) / min(kernels.shape)
    (layer,) = redundancy(g)["groups"][0]["layers"]
    assert layer["kernels"] == pytest.approx(expected)
    assert [x["kernels"] for group in redundancy(graph("mlp"))["groups"] for x in group["layers"]] == [None, None]
    found = {x["weight"]: x["kernels"] for g in redundancy(graph("depthwise"))["groups"] for x in g.get("layers", ())}
    assert found["point.0.weight"] is None  # of 1x1, which has no space
    assert found["stem.0.weight"] > 0


def test_the_table_for_people(secateur):
    code, out, err = secateur("inspect", "--model", "digits-resnet", "--redundancy")
    assert (code, err) == (0, "")
    assert " ".join(out.split()).endswith(CAVEAT)
    assert "  conv1.weight" in out  # a stream that several layers write
    assert "  layer1.0.conv1.weight" not in out  # one layer alone is its group
    plain = secateur("inspect", "--model", "digits-resnet").out
    assert "ignores the data" not in plain
    assert plain in out


def test_the_document(secateur):
    code, out, _ = secateur("inspect", "--model", "digits-resnet", "--redundancy", "--json")
    found = json.loads(out)["redundancy"]
    assert code == 0
    assert found["caveat"] == CAVEAT
    assert {g["name"] for g in found["groups"]} == {g["name"] for g in json.loads(out)["groups"]}
    assert json.loads(secateur("inspect", "--model", "digits-resnet", "--json").out)["redundancy"] is None


NETS = """
import torch
from torch import nn

class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.mid, self.head = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = nn.functional.linear(x, torch.cat([self.left.weight, self.right.weight])).relu()
        return self.head(self.mid(x).relu())
"""


def test_a_weight_that_is_computed_has_none_and_says_why(secateur, tmp_path, monkeypatch):
    (tmp_path / "computed_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    command = ("inspect", "--model", "computed_nets:Joined", "--input", "1,4", "--redundancy")
    code, out, _ = secateur(*command)
    assert code == 0
    assert any(line.startswith("none: group ") and "computed from others" in line for line in out.splitlines())
    groups = json.loads(secateur(*command, "--json").out)["redundancy"]["groups"]
    assert sorted([g["name"] for g in groups if "combined" in g]) == ["mid"]
    assert [g["relative"] for g in groups if "combined" in g] == [1.0]
    assert all(g["relative"] is None for g in groups if "missing" in g)
    assert len(groups) > 1
