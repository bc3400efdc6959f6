"""`secateur methods`."""

import json

import secateur as package


def test_all_that_is_registered_is_listed(secateur):
    code, out, err = secateur("methods", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    for kind, known in (
        ("methods", package.methods()),
        ("criteria", package.criteria()),
        ("criteria of single weights", package.weight_criteria()),
        ("allocators", package.allocators()),
    ):
        assert [entry["name"] for entry in found[kind]] == list(known)
        assert all(entry["summary"].strip() for entry in found[kind])


def test_options_defaults_and_needs(secateur):
    found = json.loads(secateur("methods", "--json").out)
    by_name = {kind: {entry["name"]: entry for entry in entries} for kind, entries in found.items()}
    assert by_name["methods"]["taylor"]["options"] == {"per_macs": 0.0}
    assert by_name["methods"]["slimming"]["trains"] is True
    assert "1708.06519" in by_name["methods"]["slimming"]["paper"]
    assert "gradients" in by_name["criteria"]["taylor"]["needs"]
    assert by_name["allocators"]["uniform"]["options"]["keep"] is None


def test_tables_for_people(secateur):
    code, out, err = secateur("methods")
    assert (code, err) == (0, "")
    assert all(name in out for name in (*package.methods(), *package.criteria(), *package.allocators()))
    assert "works while" in out
