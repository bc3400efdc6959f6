"""Tables and staircases from a clock that is known."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur.cost.cost import CostModel
from secateur.cost.latency import PLAIN
from secateur.cost.ops import Op
from secateur.errors import UnknownName
from secateur.graph.record import Convolution, Geometry
from secateur.latency import onnx_ops, torch_ops
from secateur.latency.tables import measured, staircases, times_of


def stairs(op):
    """Whole blocks of 16 of outputs, and odd inputs twice as slow."""
    out, read = op.lengths[-1], op.lengths[-2]
    return -(-out // 16) * 16.0 * read * (2 if read % 2 else 1)


def clock(ops):
    return [stairs(op) for op in ops]


@pytest.fixture(scope="module")
def wanted():
    net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 5))
    graph = secateur.trace(net, torch.zeros(3, 6))
    return CostModel(graph).timed(graph)


def test_each_op_is_timed_once_at_each_point(wanted):
    asked = []

    def count(ops):
        asked.extend(ops)
        return clock(ops)

    found = measured(wanted, {}, count)
    assert len(asked) == len(set(asked)) == 4 + 16 + 4
    square = next(found[t.key] for t in wanted if len(t.live) == 2)
    assert square.shape == (4, 4)
    assert square[1, 2] == 48 * 32
    assert measured(wanted, found, count) == {}
    assert len(asked) == 24


def test_a_staircase_is_read(wanted):
    found = staircases({"gemm"}, 1, clock)
    columns, slower = found["gemm", 3]
    assert columns == (0.0,) + (16.0,) * 15
    assert slower == (1.0,) * 16
    columns, slower = found["gemm", 2]  # inputs: in proportion, but for the odd ones
    assert columns[2::2] == pytest.approx(range(2, 16, 2))
    assert slower[::2] == (1.0,) * 8
    assert slower[15] == pytest.approx(2 * 63 / 64)


def test_where_nothing_is_seen_of_a_staircase():
    assert staircases({"gemm"}, 1, lambda ops: [1.0] * len(ops))["gemm", 3] == PLAIN


def shape(kind, lengths, kernel=3, groups=1, transposed=False):
    walk = Geometry((2, 1), (1, 0), (1, 1))
    return Op(kind, lengths, Convolution(2, (9, 8), (kernel, kernel), walk, groups, transposed))


OPS = [
    shape("conv", (6, 4)),
    shape("conv", (6, 4), groups=2),
    shape("conv", (6, 4), transposed=True),
    shape("pointwise", (6, 4), kernel=1),
    shape("depthwise", (6,), groups=4),
    Op("gemm", (1, 5, 6, 7)),
    Op("gemm", (3, 5, 6, 7)),
]


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino"])
def test_every_op_runs_on_every_engine(engine):
    found = times_of(engine, 1)(OPS)
    assert len(found) == len(OPS)
    assert all(0 <= ms < 1000 for ms in found)
    assert max(found) > 0


def test_the_ops_of_onnx_are_those_of_torch():
    """Outputs have the same shapes, so that both time the same work."""
    import onnx

    content, _ = onnx_ops.model_of(OPS)
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    shapes = [tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in inferred.graph.output]
    made = [tuple(torch_ops._made(op)().shape) for op in OPS]
    assert shapes == made


def test_an_engine_that_does_not_exist():
    with pytest.raises(UnknownName, match="'tpu'"):
        times_of("tpu", 1)


def test_larger_ops_take_longer():
    small, large = torch_ops.times([Op("gemm", (1, 16, 16, 16)), Op("gemm", (1, 512, 512, 512))], 1)
    assert np.isfinite(small)
    assert large > 5 * small
