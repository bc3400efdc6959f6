"""The inventory is the graph's own figures, and fits into JSON."""

import json

from report_nets import residual, tied

from secateur.report.inventory import inventory


def test_groups_members_and_costs():
    found = inventory(residual())
    inner = found["groups"][1]
    assert (inner["number"], inner["name"], inner["kind"], inner["units"]) == (2, "first.0", "channel", 12)
    assert inner["writers"] == ["first.0.weight"]
    assert inner["readers"] == ["second.0.weight"]
    assert {"tensor": "second.0.weight", "axis": 1, "role": "read", "indices_per_unit": 1} in inner["members"]
    # A channel between two 3x3 convolutions of 6 channels at 8x8, with a scale and a shift.
    assert inner["saved_per_unit"]["macs"] == 2 * 9 * 6 * 64
    assert inner["saved_per_unit"]["params"] == 2 * 9 * 6 + 2
    assert inner["depends"]["macs"] == 12 * 2 * 9 * 6 * 64, "both convolutions go with the group"
    assert found["kinds"] == {"channel": {"groups": 2, "units": 18}}
    assert json.loads(json.dumps(found)) == found


def test_what_is_frozen_is_summed_up_by_reason():
    found = inventory(residual(frozen=["stem.*", "first.*"]))
    assert found["prunable"] == 0
    assert found["frozen_by_reason"][0]["reason"] == "reaches the model's output"
    assert sum(r["groups"] for r in found["frozen_by_reason"]) == len(found["frozen"]) == 3
    both = inventory(residual(kinds="head"))["frozen_by_reason"][0]
    assert (both["groups"], both["units"], both["example"]) == (2, 18, "stem.0")


def test_a_tied_weight_is_written_and_read():
    members = inventory(tied())["groups"][0]["members"]
    assert {"tensor": "table.weight", "axis": 1, "role": "written and read", "indices_per_unit": 1} in members
