"""A run that is killed -9 again and again, also while it writes its checkpoint, ends as if nothing had happened.

The driver runs in a fresh process: it loads torch once and forks a child for each attempt, which needs a parent that
has started no threads.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from secateur import files
from secateur.methods.hook import Hook
from secateur.training import Loader, Recipe, checkpoint, evaluate_accuracy, fit

KILLS = 20


class Average(Hook):
    """A stateful hook: the moving average of a weight, pulled towards."""

    def on_start(self, model):
        self.mean = model[0].weight.detach().clone()

    def after_step(self, model, lr):
        self.mean = 0.9 * self.mean + 0.1 * model[0].weight.detach()
        with torch.no_grad():
            model[0].weight.lerp_(self.mean + 1e-3 * torch.randn_like(self.mean), 0.05)

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


def digits():
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x[:400], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y[:400])


def job(folder, x, y):
    """The command that is started again and again."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(288, 10)
    )
    loader = Loader(x, y, batch_size=32, augment=lambda x, g: x + 0.1 * torch.randn(x.shape, generator=g))
    recipe = Recipe(epochs=6, batch_size=32, lr=0.05, schedule="onecycle", weight_decay=1e-4)
    options = {"hooks": [Average()], "evaluate": lambda m: evaluate_accuracy(m, [(x, y)]), "evaluate_every": 2}
    history = fit(net, loader, recipe, checkpoint=folder / "run.safetensors", every=3, **options)
    rows = [(row.epoch, row.loss, row.lr, row.metric) for row in history.rows]
    checkpoint.write(folder / "final.safetensors", net.state_dict(), {"rows": rows})


def suicide(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_write(moment, count):
    """Make this process die in its `count`-th checkpoint.

    The file half written, under its name or the random one that safetensors gives it first; or before or after it is in
    place.
    """
    save, replace, left = files.save_file, os.replace, iter(range(count - 1, -1, -1))

    def save_half(tensors, path, header):
        save(tensors, path, header)
        if next(left) == 0:
            os.truncate(path, path.stat().st_size // 2)
            if moment == "unnamed":
                path.rename(path.with_name(".tmpAbCdEf"))
            suicide()

    def replace_and_die(source, target):
        dying = next(left) == 0
        if dying and moment == "before":
            suicide()
        replace(source, target)
        if dying:
            suicide()

    if moment in ("half", "unnamed"):
        files.save_file = save_half
    else:
        os.replace = replace_and_die


def attempt(folder, examples, moment=None, count=0, delay=None):
    """One forked child doing the job; returns whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            if moment:
                kill_in_write(moment, count)
            job(folder, *examples)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the job failed"
    return os.WIFSIGNALED(status)


def content(folder):
    tensors, facts = checkpoint.read(folder / "run.safetensors")
    final, rows = checkpoint.read(folder / "final.safetensors")
    return tensors | {f"final.{name}": tensor for name, tensor in final.items()}, facts["step"], facts["done"], rows


def check(folder, whole):
    tensors, *facts = content(folder)
    expected, *expected_facts = content(whole)
    assert facts == expected_facts
    assert tensors.keys() == expected.keys()
    different = [name for name, tensor in tensors.items() if not torch.equal(tensor, expected[name])]
    assert not different, different
    assert sorted(os.listdir(folder)) == ["final.safetensors", "run.safetensors"]


def drive(root):
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)]).zero_grad()  # loads what torch loads late, once for all children
    examples = digits()
    rng, whole = random.Random(0), root / "whole"
    began = time.perf_counter()
    attempt(whole, examples)
    duration = time.perf_counter() - began
    kills, runs, resumed_at = 0, 0, set()
    while kills < KILLS:
        runs, killed = runs + 1, True
        folder = root / str(runs)
        while killed:
            moment = rng.choice(["timer", "timer", "half", "unnamed", "before", "after"]) if kills < KILLS else None
            if moment == "timer":
                killed = attempt(folder, examples, delay=rng.uniform(0, duration))
            else:
                killed = attempt(folder, examples, moment, rng.randint(1, 12))
            kills += killed
            if killed and (folder / "run.safetensors").exists():
                resumed_at.add(checkpoint.read(folder / "run.safetensors")[1]["step"])  # always whole
        check(folder, whole)
    print(json.dumps({"kills": kills, "runs": runs, "resumed_at": sorted(resumed_at), "seconds": duration}))


def test_killed_at_random_moments_it_ends_bit_identical(tmp_path):
    done = subprocess.run([sys.executable, __file__, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["kills"] >= 20
    assert len(facts["resumed_at"]) >= 8, facts


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
