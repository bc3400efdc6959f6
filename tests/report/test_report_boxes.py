"""Boxes hold every parameter once, in order of execution, with the groups that their layers read and write."""

from report_nets import dense, residual, tied

from secateur.cost.cost import CostModel
from secateur.report.boxes import boxes
from secateur.report.layers import Block


def by_path(root):
    return {layer.path: layer for layer in root.layers()}


def groups(parts):
    return [(part.group, part.indices) for part in parts]


def test_layers_read_and_write_what_they_do():
    root = boxes(residual())
    layers = by_path(root)
    assert groups(layers["stem.0"].reads) == [(0, 3)]
    assert groups(layers["stem.0"].writes) == groups(layers["second.0"].writes) == [(1, 6)]
    assert groups(layers["second.0"].reads) == groups(layers["first.0"].writes) == [(2, 12)]
    assert groups(layers["first.1"].along) == [(2, 12)]
    assert not layers["first.1"].reads
    (head,) = layers["head"].writes
    assert (head.group, head.indices, head.stuck, head.why) == (0, 5, True, "reaches the model's output")


def test_every_parameter_is_in_one_box_and_all_macs_are_counted():
    for graph in (residual(), tied(), dense()):
        root = boxes(graph)
        held = [f"{b.path}.{n}".lstrip(".") for b in root.layers() for n in b.tensors]
        assert len(set(held)) == len(held)
        assert {n for n, _ in graph.model.named_parameters()} <= set(held)
        assert [layer.row for layer in root.layers()] == list(range(len(list(root.layers()))))
        assert root.macs == CostModel(graph).dense().macs


def test_execution_decides_the_order_and_ties_are_told_apart():
    root = boxes(tied())
    names = [layer.path for layer in root.layers()]
    inner = [f"blocks.{i}.{name}" for i in range(2) for name in ("norm", "up", "down")]
    assert names == ["", "table", *inner, "head"]
    layers = by_path(root)
    assert layers[""].own
    assert list(layers[""].tensors) == ["scale"]
    assert groups(layers["table"].writes) == [(1, 8)]
    assert not layers["table"].reads, "the head reads the tied weight, not the table"
    assert groups(layers["head"].reads) == [(1, 8)]
    assert layers["head"].tensors == {}


def test_a_concatenation_is_read_part_by_part():
    layers = by_path(boxes(dense()))
    assert groups(layers["layers.2"].reads) == [(0, 3), (1, 4), (2, 4)]


def test_blocks_open_from_the_outside_in_while_there_is_room():
    small, large = boxes(tied(2)), boxes(tied(40))
    assert all(block.open for block in small.all_blocks())
    (blocks,) = large.blocks()
    assert blocks.path == "blocks"
    assert blocks.open
    assert len(blocks.children) == 40
    assert not any(isinstance(b, Block) and b.open for b in blocks.children)
