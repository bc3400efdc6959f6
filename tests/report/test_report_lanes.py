"""Lines beside the layers run without a gap from the first layer of a group to its last."""

from xml.etree import ElementTree

from report_nets import dense, residual, tied

from secateur.report.boxes import boxes
from secateur.report.lanes import MOST, Lanes


def pieces(svg, group):
    return [e for e in ElementTree.fromstring(svg).iter() if f"g{group}" in (e.get("class") or "").split()]


def drawn(lanes, layer, group):
    found = pieces(lanes.beside_layer(layer), group)
    return [e.get("d") for e in found if e.tag == "path"], [e.get("class") for e in found if e.tag == "circle"]


def test_a_line_has_a_beginning_a_middle_and_an_end():
    root = boxes(residual())
    lanes = Lanes(root)
    layers = {layer.path: layer for layer in root.layers()}
    assert lanes.lane == {1: 0, 2: 1}
    assert drawn(lanes, layers["stem.0"], 1) == (["M6 32V64"], ["x g1"])
    assert drawn(lanes, layers["stem.1"], 1) == (["M6 0V34"], ["x r g1"])
    assert drawn(lanes, layers["first.1"], 1) == (["M6 0V34"], [])
    assert drawn(lanes, layers["second.0"], 2) == (["M16 0V32"], ["x r g2"])
    assert drawn(lanes, layers["second.0"], 1) == (["M6 0V64"], ["x g1"])
    assert drawn(lanes, layers["head"], 1) == (["M6 0V32"], ["x r g1"])
    assert drawn(lanes, layers["head"], 2) == ([], [])


def test_the_head_of_a_block_shows_what_goes_past_and_what_goes_on_inside():
    root = boxes(tied(3))
    lanes = Lanes(root)
    (blocks,) = root.blocks()
    svg = ElementTree.fromstring(lanes.beside_head(blocks.blocks()[1]))
    opened, closed = (next(g for g in svg if g.get("class") == kind) for kind in "oc")
    assert [e.get("class") for e in opened] == ["x g1"]
    assert [(e.tag, e.get("class")) for e in closed] == [("path", "x g1"), ("circle", "x g1")], "group 3 is inside"


def test_lines_do_not_share_a_place_and_those_without_room_are_counted():
    root = boxes(dense())
    lanes = Lanes(root)
    assert lanes.count == MOST
    assert lanes.left_out == 12 - MOST
    for a, rows in lanes.rows.items():
        for b, others in lanes.rows.items():
            if a < b and lanes.lane.get(a, -1) == lanes.lane.get(b, -2):
                assert rows[-1] < others[0] or others[-1] < rows[0]
