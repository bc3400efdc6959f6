"""`secateur oracle`, from the command line to its files."""

import json

import pytest
import torch
from safetensors.torch import save_file

import secateur as package
from secateur.cli import measuring
from secateur.experiments.correlation import correlations
from secateur.experiments.data import load
from secateur.experiments.models import build
from secateur.experiments.oracle import oracle
from secateur.training.seeds import child_seed

FAST = ("oracle", "--model", "digits-vgg", "--data", "digits", "--calibration", "64", "--resamples", "50")


@pytest.fixture
def weights(tmp_path):
    """Others than the command line would make from its seed."""
    torch.manual_seed(0)
    model = build("digits-vgg")
    save_file(model.state_dict(), tmp_path / "W.safetensors")
    return model


def test_what_is_printed_and_stored_is_what_python_gives(secateur, weights, tmp_path):
    words = ("--samples", "9", "--criteria", "l1,taylor", "--seed", "3", "--out", "new/o", "--weights", "W.safetensors")
    code, out, err = secateur(*FAST, *words, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found == json.loads((tmp_path / "new/o/oracle.json").read_text())

    data = load("digits")
    batches = [next(iter(data.loader("train", batch_size=64, seed=child_seed(3, "calibration"))))]
    graph = package.trace(weights, data.example())
    expected = oracle(graph, batches, units=9, seed=3)
    assert [(u["group"], u["unit"]) for u in found["units"]] == list(expected.units)
    assert [u["change"] for u in found["units"]] == pytest.approx(expected.change.tolist(), abs=1e-9)
    scores = {c: package.score(graph, c, batches=batches, seed=3) for c in ("l1", "taylor")}
    lines = correlations(expected, scores, resamples=50, seed=3)
    for line, stored in zip(lines, found["correlations"], strict=True):
        assert (line.name, line.units, line.groups) == (stored["name"], stored["units"], stored["groups"])
        for statistic, estimate in line.overall.items():
            assert stored["overall"][statistic]["value"] == pytest.approx(estimate.value, abs=1e-6)
        assert [u["scores"][line.name] for u in found["units"]] == pytest.approx(
            expected.of(scores[line.name]).tolist(), rel=1e-6
        )
    assert (found["images"], found["seed"], found["refused"]) == (64, 3, {})
    assert found["dense_loss"] == pytest.approx(expected.dense_loss, abs=1e-9)
    assert sum(g["measured"] for g in found["groups"]) == 9
    assert sum(g["units"] for g in found["groups"]) == sum(g.size for g in graph.groups)
    assert found["command"] == " ".join(
        [
            "secateur",
            "oracle",
            "--model digits-vgg --data digits --out new/o --weights "
            "W.safetensors --samples 9 --criteria l1,taylor --calibration 64 --resamples 50 --seed 3 --json",
        ]
    )


def test_for_people(secateur, tmp_path):
    code, out, err = secateur(*FAST, "--samples", "40", "--criteria", "random,l1", "--criteria", "l2", "--out", "o")
    assert code == 0
    assert "40 of 144 units left out one at a time" in out.replace("\n", " ")
    assert "over all 40 units" in out
    assert "within groups, mean over groups" in out
    assert out.count("l2 ") >= 2
    assert out.rstrip().endswith("page: o/oracle.html")
    assert "no --weights: this model has random weights" in err
    page = (tmp_path / "o/oracle.html").read_text(encoding="utf-8")
    assert page.count('class="chart"') == 3
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"oracle.json", "oracle.html", "oracle.safetensors"}


def test_the_same_command_measures_nothing_anew_and_more_adds(secateur, monkeypatch):
    from secateur.experiments import oracle as engine

    calls = []

    def counted(*given, real=engine.measured):
        calls.append(1)
        return real(*given)

    monkeypatch.setattr(engine, "measured", counted)
    first = secateur(*FAST, "--samples", "5", "--criteria", "l1", "--out", "o", "--json")
    assert len(calls) == 6
    again = secateur(*FAST, "--samples", "5", "--criteria", "l1,l2", "--out", "o", "--json")
    assert len(calls) == 6
    assert [u["change"] for u in json.loads(first.out)["units"]] == [
        u["change"] for u in json.loads(again.out)["units"]
    ]
    secateur(*FAST, "--samples", "8", "--criteria", "l1", "--out", "o")
    assert len(calls) == 9
    code, _, err = secateur(*FAST, "--samples", "5", "--seed", "1", "--out", "o")
    assert code == 4
    assert "oracle.safetensors was measured on other weights and batches than these" in err


def test_where_nobody_watches_a_line_a_minute_says_how_far_it_is(secateur, monkeypatch):
    monkeypatch.setattr(measuring, "MINUTE", 0.0)
    err = secateur(*FAST, "--samples", "3", "--criteria", "l1", "--out", "o").err
    assert err.startswith("0 of 3 units\n1 of 3 units\n2 of 3 units\n3 of 3 units\n")


def test_ctrl_c_says_how_to_go_on(secateur, monkeypatch):
    from secateur.experiments import oracle as engine

    def interrupted(*_, real=engine.measured, left=[3]):  # noqa: B006  what is left to the next calls
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*_)

    monkeypatch.setattr(engine, "measured", interrupted)
    code, out, err = secateur(*FAST, "--samples", "5", "--criteria", "l1", "--out", "o")
    assert (code, out) == (130, "")
    assert "interrupted; what is measured lies in o, and the same command goes on from there" in err


def test_all_leaves_out_what_does_not_fit_and_a_name_does_not(secateur, tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))\n"
    )
    own = (
        "oracle",
        "--model",
        "own:make",
        "--data",
        "digits",
        "--calibration",
        "64",
        "--resamples",
        "10",
        "--out",
        "o",
    )
    code, out, err = secateur(*own, "--criteria", "all", "--json")
    found = json.loads(out)
    assert code == 0
    assert "no batch norm with a scale follows" in found["refused"]["bn-scale"]
    assert "note: bn-scale is left out" in err
    names = [line["name"] for line in found["correlations"]]
    assert {"l1", "taylor", "random"} <= set(names)
    assert set(names) | set(found["refused"]) == set(package.criteria())
    code, out, err = secateur(*own, "--criteria", "l1,bn-scale")
    assert (code, out) == (2, "")
    assert "no batch norm with a scale follows" in err


def test_options_of_criteria(secateur):
    criteria = ("--criteria", "l1:reduction=sum,l1", "--criteria", "l2:reduction=first")
    out = secateur(*FAST, "--samples", "6", *criteria, "--out", "o", "--json").out
    assert [line["name"] for line in json.loads(out)["correlations"]] == [
        "l1:reduction=sum",
        "l1",
        "l2:reduction=first",
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--criteria", "tailor"), 2, "Did you mean 'taylor'"),
        (("--criteria", "l1,l1"), 2, "'l1' is given twice"),
        (("--criteria", "l1:foo=1"), 2, "called 'foo'"),
        (("--samples", "0"), 2, "--samples"),
        (("--weights", "no.safetensors"), 4, "no weights file"),
        (("--out", "/proc/none/o"), 4, "cannot be made"),
        (("--kinds", "head"), 2, "no group has a unit that may go"),
    ],
)
def test_what_is_refused(words, code, message, secateur):
    got, out, err = secateur(*FAST, *(() if "--out" in words else ("--out", "o")), *words)
    assert (got, out) == (code, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
