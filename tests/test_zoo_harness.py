"""The public zoo's harness: its lists, weights that hide nothing, and an oracle that sees what is wrong."""

import argparse
import copy
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import secateur
from nets import ALL, fresh
from secateur.groups.plan import Plan

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks" / "zoo"))

import models
import run
import table
import weights
import zoo_oracle as oracle


class Flat(nn.Module):
    """Everything that is initialised to nothing: LayerScale, a gate, a last norm, a bias, a skip's gain."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.unused, self.norm = nn.BatchNorm1d(4), nn.LayerNorm(8)
        self.scale, self.gain = nn.Parameter(1e-6 * torch.ones(8)), nn.Parameter(torch.zeros(()))
        self.gate, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        nn.init.normal_(self.gate.weight, std=1e-6)
        nn.init.zeros_(self.last.weight)
        nn.init.normal_(self.head.weight, std=0.02)
        self.register_buffer("mask", torch.zeros(4))

    def forward(self, x):
        x = self.last(torch.relu(self.bn(self.conv(x))))
        x = self.norm(x.mean((2, 3)) * self.scale)
        return self.head(x + self.gain * self.gate(x))


def test_the_lists_are_the_zoo():
    lists = models.TORCHVISION, models.TIMM, models.TRANSFORMERS
    assert [len(set(names)) for names in lists] == [25, 56, 21]
    assert len(set(models.ROWS)) == 102 + 12  # a second row for each decoder
    assert {models.library(r) for r in models.ROWS} == {"torchvision", "timm", "transformers"}
    with pytest.raises(KeyError, match="resnet19"):
        models.library("resnet19")


@pytest.mark.parametrize("row", ["shufflenet_v2_x0_5", "lcnetv2_small", "llama_gqa", "llama_gqa+cache"])
def test_a_model_is_the_same_each_time_and_takes_its_example(row):
    state = torch.get_rng_state()
    model, again = models.build(row), models.build(row)
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training
    assert oracle.fingerprint(model) == oracle.fingerprint(again)
    with torch.no_grad():
        assert {len(t) for b in (1, 2) for t in oracle.outputs(model, models.example(row, b))} == {1, 2}


def test_no_tensor_is_left_flat():
    model = Flat().eval()
    flat = {n for n, t in model.named_parameters() if weights.is_flat(t)}
    assert flat == {"bn.weight", "bn.bias", "last.weight", "last.bias", "unused.weight", "unused.bias"} | {
        *("norm.weight", "norm.bias", "scale", "gain", "gate.weight")
    }
    weights.enliven(model, torch.randn(8, 3, 6, 6))
    assert [n for n, t in (*model.named_parameters(), *model.named_buffers()) if weights.is_flat(t)] == ["mask"]
    assert model.gain != 0
    assert model.head.weight.std().item() == pytest.approx(8**-0.5)
    assert [m.training for m in model.modules()] == [False] * 8
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_norms_have_the_statistics_of_what_arrives_and_noise():
    model, x = Flat().eval(), torch.randn(64, 3, 6, 6)
    weights.enliven(model, x)
    with torch.no_grad():
        seen = model.conv(x).transpose(0, 1).flatten(1)
    assert ((model.bn.running_mean - seen.mean(1)).abs() < seen.std(1)).all()
    assert not torch.allclose(model.bn.running_mean, seen.mean(1))
    assert (model.bn.running_var / seen.var(1)).log().abs().max() < 1.5
    other = weights.enliven(Flat().eval(), x, seed=1)
    assert not torch.equal(other.bn.running_mean, model.bn.running_mean)


def judged(name, change=lambda pruned: pruned, reload=None, dense=None):
    """The oracle's judgement of a pruned net after something was done to it."""
    model, example = (dense or fresh(name)).eval(), ALL[name].example
    before = oracle.fingerprint(model)
    graph = secateur.trace(model, example)
    plan = Plan.keeping(graph, {g.name: list(range(g.size))[1::2] for g in graph.groups})
    pruned = change(secateur.cut(graph, plan))
    seconds = [torch.randn(3, *example.shape[1:], generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    reload = reload or oracle.loaded_here(lambda: fresh(name, seed=9), example)
    return oracle.judge(model, pruned, example, seconds, before=before, reload=reload)


def test_attention_is_counted():
    """Both products of a fused attention: 4 x 4 x 6 multiply-accumulates each, beside what the layers take."""
    model = nn.MultiheadAttention(6, 2, batch_first=True).eval()
    x = torch.randn(1, 4, 6)
    assert oracle.count(model, (x, x, x)) == 4 * 6 * (3 * 6 + 6) + 2 * 4 * 4 * 6


@pytest.mark.parametrize("name", ["plain", "concat", "tied", "depthwise"])
def test_a_right_result_is_pruned(name):
    found = judged(name)
    assert (found.verdict, found.problems, found.notes) == ("pruned", [], [])
    assert found.second_error < 1e-9
    assert found.macs[1] < found.macs[0]
    assert found.params[1] < found.params[0]


def tampered(pruned):
    with torch.no_grad():
        pruned.model.two[0].weight[0, 0] += 1e-3
    return pruned


def swapped(pruned):
    """Two channels of a norm in each other's place, as a wrong index would leave them."""
    with torch.no_grad():
        pruned.model.two[1].weight.copy_(pruned.model.two[1].weight.flip(0))
    return pruned


def widened(pruned):
    pruned.model.head.linear = nn.Linear(3, 11)
    return pruned


def broken(pruned):
    with torch.no_grad():
        pruned.model.head.linear.bias[0] = torch.nan
    return pruned


def not_trainable(pruned):
    pruned.model.one[0].weight.requires_grad_(False)
    return pruned


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (tampered, "at the second batch size"),
        (swapped, "at the second batch size"),
        (broken, "error nan at the second batch size"),
        (widened, "outputs were"),
        (not_trainable, "no gradient reaches one.0.weight"),
        (lambda p: replace(p, check=replace(p.check, max_error=1e-3)), "its own check says 0.001"),
    ],
)
def test_a_wrong_result_is_wrong(change, problem):
    found = judged("plain", change)
    assert found.verdict == "wrong"
    assert any(problem in p for p in found.problems), found.problems


def test_a_lost_tie_is_wrong():
    def untied(pruned):
        pruned.model.c.weight = nn.Parameter(pruned.model.b.weight.detach().clone())
        return pruned

    assert any("shared parameters" in p for p in judged("tied", untied).problems)


def test_a_model_that_reloads_otherwise_is_wrong():
    assert judged("plain", reload=lambda path: [torch.zeros(2, 10)]).problems == ["the reloaded model gives others"]
    assert "save and load: IndexError" in judged("plain", reload=lambda path: [][0]).problems[0]


def test_a_touched_caller_is_wrong():
    dense = fresh("plain")

    def touch(pruned):
        dense.one[1].num_batches_tracked += 1
        return pruned

    assert judged("plain", touch, dense=dense).problems == ["the caller's model was changed"]


def test_nothing_removed_is_a_noop():
    def unpruned(pruned):
        return replace(pruned, model=copy.deepcopy(fresh("plain").eval()))

    assert judged("plain", unpruned).verdict == "noop"


def test_a_sweep_is_taken_up_where_it_stopped(tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.jsonl"
    out.write_text(json.dumps({"name": "bert", "how": "uniform"}) + "\n")
    monkeypatch.setattr(run, "sweep_one", lambda name, options: {"name": name, "how": options.how, "verdict": "pruned"})
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "bert", "t5", "--out", str(out)])
    run.main()
    assert [json.loads(line)["name"] for line in out.read_text().splitlines()] == ["bert", "t5", "t5+cache"]
    run.main()
    assert len(out.read_text().splitlines()) == 3


def test_a_process_that_hangs_or_crashes_has_a_row():
    facts = {"name": "x", "stage": "prune"}
    assert run.closed(dict(facts), None, 5)["message"] == "prune: more than 5 s"
    crash = run.closed(dict(facts), -11, 5)
    assert (crash["verdict"], crash["message"]) == ("error", "prune: SIGSEGV")
    assert run.closed(facts | {"verdict": "refused"}, 0, 5) == {"name": "x", "verdict": "refused"}


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), ("error", "prune: SIGKILL")),
        (lambda: os._exit(3), ("error", "prune: exit 3")),
        (lambda: time.sleep(60), ("timeout", "prune: more than 2 s")),
        (
            lambda: Path("/a/machine/s/path/file.py").read_text(),
            ("error", "prune: FileNotFoundError: [Errno 2] No such file or "),
        ),
    ],
)
def test_a_sweep_outlives_its_rows(ends, wanted, monkeypatch):
    def work(row, *_):
        row.add(stage="prune")
        ends()

    monkeypatch.setattr(run, "work", work)
    monkeypatch.setattr(run, "host", dict)
    options = argparse.Namespace(how="uniform", batch=1, fresh=False, limit_seconds=2)
    row = run.sweep_one("bert", options)
    assert (row["verdict"], row["message"][: len(wanted[1])]) == wanted
    assert "machine" not in row["message"]


def test_the_page_has_a_row_for_each_model_and_names_what_was_not_pruned():
    host = {"cpu": "a CPU", "torch": "2", "torchvision": "0", "timm": "1", "transformers": "5"}
    row = {"library": "timm", "host": host, "seconds": {"prune": 34.4}, "message": ""}
    good = row | {"groups": 4, "prunable": 3, "frozen": {"a | b": 1}, "error": 3e-15, "verdict": "pruned"}
    good |= {"counted_before": 200, "counted_after": 55}
    bad = row | {"verdict": "refused", "message": "TraceError: why", "seconds": {}}
    text = table.page({"uniform": {"dla34": good, "volo_d1_224": bad}, "ranked": {}})
    assert "| dla34 | 4 | 3 | 1 a \\| b | 0.28 | 1e-14 | 30 | pruned | - | - | - | - |" in text
    assert "| timm | 1 pruned, 1 refused of 2 | none of 0 |" in text
    assert "- `volo_d1_224`, uniform, refused: TraceError: why" in text
    assert "Hardware: a CPU, one thread; torch 2," in text
