"""Blocks know the layers and groups inside them."""

from secateur.report.layers import Block, Layer, Part


def layer(path, reads=(), writes=(), along=()):
    parts = (tuple(Part(group, 4) for group in held) for held in (reads, writes, along))
    return Layer(path, "Linear", {}, 0, *parts)


def test_a_block_has_the_layers_and_groups_of_all_blocks_inside():
    inner = Block("a.b", "Sequential", [layer("a.b.0", (1,), (2,)), layer("a.b.1", along=(2,))])
    outer = Block("a", "Net", [layer("a.first", (0,), (1,)), inner])
    root = Block("", "Net", [outer, layer("last", (2,), (0,))])
    assert [box.path for box in root.layers()] == ["a.first", "a.b.0", "a.b.1", "last"]
    assert root.groups == inner.groups == {1, 2}, "0 is no group"
    assert root.blocks() == [outer]
    assert list(root.all_blocks()) == [outer, inner]
