"""`secateur bench`: what is measured is real; what is said about it is checked on made-up times."""

import json

import pytest

from secateur.cli import bench
from secateur.engines.timing import Samples
from secateur.experiments.bench import Cell

PRUNE = ("prune", "--model", "digits-resnet", "--criterion", "l1", "--budget", "macs=0.5", "--out", "half.safetensors")
BENCH = ("bench", "--model", "digits-resnet", "--pruned", "half.safetensors", "--rounds", 3)


@pytest.fixture
def half(secateur):
    assert secateur(*PRUNE).code == 0


def test_every_cell_is_measured(half, secateur):
    code, out, err = secateur(*BENCH, "--engine", "onnxruntime,eager", "--threads", "1,2", "--batch", "3", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    cells = found["cells"]
    got = [(c["engine"], c["batch"], c["threads"]) for c in cells]
    assert got == [(e, 3, t) for e in ("onnxruntime", "eager") for t in (1, 2)]
    assert {c["macs"] for c in cells} == {cells[0]["macs"]}
    assert 1.9 < cells[0]["macs"] < 2.2
    assert all(len(c["dense_ms"]["samples"]) == len(c["pruned_ms"]["samples"]) == 3 for c in cells)
    first = cells[0]
    pairs = zip(first["dense_ms"]["samples"], first["pruned_ms"]["samples"], strict=True)
    assert first["speedup"]["samples"] == [dense / pruned for dense, pruned in pairs]
    assert found["rounds"] == 3
    assert "CPUs" in found["environment"]


def test_the_table_for_people(half, secateur):
    code, out, err = secateur(*BENCH, "--engine", "eager")
    assert (code, err) == (0, "")
    assert "half.safetensors" in out
    for word in ("dense ms", "pruned ms", "speed-up", "MACs", "eager"):
        assert word in out


def cell(speedup, macs=2.0, pruned="half.safetensors"):
    times = Samples((1.0, 1.0, 1.0))
    return Cell(pruned, "eager", 1, 8, times, times, Samples(speedup), macs)


@pytest.mark.parametrize("width", ["80", "100"])
def test_long_figures_cut_no_column_off(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", width)
    slow = Samples((1234.5, 1345.6, 1456.7))
    bench.show([Cell("half.safetensors", "onnxruntime", 16, 128, slow, slow, Samples((0.9871, 1.0123, 1.1234)), 2.0)])
    out = capsys.readouterr().out
    for word in ("threads", "dense", "pruned", "speed-up", "MACs", "of MACs", "1.01", "2.00", "0.51"):
        assert word in out
    assert out.count("1346") == 2
    assert out.count("(1290-1401)") == (2 if width == "100" else 0)  # which is folded


@pytest.mark.parametrize(
    ("speedup", "said"),
    [
        ((1.98, 2.0, 2.02), None),
        ((1.5, 1.5, 1.6), "eager, threads 1, batch 8: faster, but 1.50 times where the MACs suggest 2.00"),
        ((0.8, 1.1, 1.2), "eager, threads 1, batch 8: not faster than dense here"),
        ((0.8, 0.8, 0.9), "eager, threads 1, batch 8: SLOWER than dense here"),
    ],
)
def test_what_falls_short_is_said(speedup, said):
    assert bench.sentence(cell(speedup)) == said


def test_a_table_a_file(capsys):
    bench.show([cell((2.0, 2.0, 2.0)), cell((0.5, 0.5, 0.5), pruned="b.safetensors")])
    out = capsys.readouterr().out
    assert out.index("half.safetensors") < out.index("b.safetensors") < out.index("SLOWER")
    assert "2 (2-2)" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "tvm"), "there is no engine 'tvm'"),
        (("--threads", "0"), "no list of whole numbers"),
        (("--batch", "1,x"), "no list of whole numbers"),
        (("--batch", ","), "no list of whole numbers"),
    ],
)
def test_what_is_refused(words, message, half, secateur):
    code, out, err = secateur(*BENCH, *words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
