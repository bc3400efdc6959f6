"""Two processes under torchrun do what one does alone. One launch serves all tests: loading torch takes seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from secateur.errors import CheckpointError, TrainingError
from secateur.methods.hook import Hook
from secateur.training import Loader, Recipe, checkpoint, fit
from secateur.training.distributed import Team, team

RECIPE = Recipe(epochs=3, batch_size=15, lr=0.1, schedule="onecycle")


class Noise(Hook):
    """Random in every step, and the same on all ranks; may stop the run."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def penalty(self, model):
        return 1e-2 * model[0].weight.abs().sum()

    def after_step(self, model, lr):
        with torch.no_grad():
            model[0].weight += 1e-2 * torch.randn_like(model[0].weight)
        if self.stop_at is not None:
            self.stop_at -= 1
            if self.stop_at == 0:
                raise KeyboardInterrupt


def make(*extra):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), *extra, nn.ReLU(), nn.Linear(8, 3))


def make_loader(n=50):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 6, generator=generator)
    return Loader(x, x[:, :3].argmax(1), batch_size=15, augment=lambda x, g: x + torch.randn(x.shape, generator=g))


def plain(folder, rank):
    """Batches of 15, 15, 15 and 5: never an even number for two."""
    net = make()
    history = fit(net, make_loader(), RECIPE, hooks=[Noise()], evaluate=lambda m: float(rank), progress=True)
    losses = [row.loss for row in history.rows[1:]]
    checkpoint.write(folder / f"plain.{rank}", net.state_dict(), {"losses": losses, "metrics": history.metrics})


def stopped(folder, rank):
    """Dropout, which differs between ranks, and running statistics; whole, and stopped after step 8."""
    for name, stops in {"whole": [None], "again": [8, None]}.items():
        for stop in stops:
            net, path = make(nn.BatchNorm1d(8), nn.Dropout(0.4)), folder / f"run.{name}"
            try:
                fit(net, make_loader(), RECIPE, hooks=[Noise(stop)], checkpoint=path, every=3)
            except KeyboardInterrupt:
                assert stop
        checkpoint.write(folder / f"{name}.{rank}", net.state_dict(), {})


def refused(folder, rank):
    """A last batch too small to share, and a checkpoint that one rank does not see."""
    with pytest.raises(TrainingError, match="last batch has 1 examples for 2 processes"):
        fit(make(), make_loader(46), RECIPE)
    own = folder / f"seen.by.{rank}"
    fit(make(), make_loader(), RECIPE, checkpoint=own)
    with pytest.raises(CheckpointError, match="share the checkpoint's folder"):
        fit(make(), make_loader(), RECIPE, checkpoint=own)


def main(folder):
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    for part in (plain, stopped, refused):
        part(folder, rank)
    assert dist.is_initialized()  # once, for all fits
    (folder / f"done.{rank}").write_text(json.dumps(sorted(file.name for file in folder.iterdir())))


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launched")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_two_processes_end_with_the_weights_of_one(launched):
    ranks = [checkpoint.read(launched[0] / f"plain.{rank}") for rank in range(2)]
    assert equal(ranks[0][0], ranks[1][0])
    assert ranks[0][1] == ranks[1][1]
    alone = make()
    history = fit(alone, make_loader(), RECIPE, hooks=[Noise()])
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(ranks[0][0][name], tensor, rtol=0, atol=1e-6)
    assert ranks[0][1]["losses"] == pytest.approx([row.loss for row in history.rows], abs=1e-6)


def test_metrics_are_averaged_and_one_process_shows_progress(launched):
    assert checkpoint.read(launched[0] / "plain.1")[1]["metrics"] == [0.5] * 4
    assert launched[1].count("12/12") == 1


def test_a_stopped_run_of_two_processes_goes_on_bit_identical(launched):
    ends = [checkpoint.read(launched[0] / name)[0] for name in ("whole.0", "whole.1", "again.0", "again.1")]
    assert all(equal(ends[0], end) for end in ends[1:])
    assert "1.running_mean" in ends[0]
    assert equal(checkpoint.read(launched[0] / "run.whole")[0], checkpoint.read(launched[0] / "run.again")[0])


def test_a_checkpoint_of_two_processes_is_not_resumed_by_one(launched):
    with pytest.raises(CheckpointError, match="processes is 2 in the file and 1 here"):
        fit(make(), make_loader(), RECIPE, checkpoint=launched[0] / "seen.by.0")


def test_only_rank_0_wrote_checkpoints(launched):
    written = json.loads((launched[0] / "done.1").read_text())
    assert "seen.by.0" in written
    assert "seen.by.1" not in written


def test_alone_there_is_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    model, device = nn.Linear(1, 1), torch.device("cpu")
    alone = team(device)
    assert alone == Team(0, 1)
    assert alone.wrap(model) is model
    assert alone.mean(0.1, device) == 0.1
    assert not dist.is_initialized()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
