"""What evidence costs: seconds of one pass over a few batches, and peak memory, against plain forward and backward.

    python benchmarks/criteria/evidence_cost.py
    python benchmarks/criteria/evidence_cost.py --subjects resnet20 --repeats 3 --no-memory
    python benchmarks/criteria/evidence_cost.py --subjects bert --no-seconds --merge --cases weight_squares synflow

Plain: the model in eval mode, loss.backward() on each batch, gradients added up in `.grad`. Evidence: `collect` over
the same batches, of all kinds together and of each alone. Kinds that decompose feature maps, hold Gram matrices,
differentiate twice or take no batches are told apart, and are not in "all"; "all by unit", which is what criteria of
units can ask for, leaves out the two that keep a number for each weight, of which no criterion asks for both. Cases
take turns within a repeat, in one process with one thread; CPU seconds, because others may work on the machine. Peak
memory is that of a fresh process for each case, in which the C library gives back every block above 128 KB: above the
process with the model traced and the batches made, and with it. Linux only: it reads the kernel's high-water mark.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))
import harness
from memory import GIVING_BACK, MB, reset, resident

import secateur
from secateur.evidence.base import COLLECTORS
from secateur.evidence.collect import collect
from secateur.experiments.models import build

APART = ("ranks", "inputs_gram", "product_grams", "curvature", *(n for n, c in COLLECTORS.all().items() if not c.data))
KINDS = tuple(k for k in COLLECTORS.all() if k not in APART)
BY_WEIGHT = ("weight_gradients", "weight_squares")
LIMIT_SECONDS, LIMIT_MEMORY = 1.5, 1.2
MEMORY = ("bert",)
HERE = Path(__file__).resolve()


class Layer(nn.Module):
    """Attention and a GELU network, each with its norm behind it, as in BERT."""

    def __init__(self, hidden, ffn, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, x):
        """(batch, length, hidden) to the same."""
        batch, length, hidden = x.shape
        shape = batch, length, self.heads, hidden // self.heads
        q, k, v = (project(x).view(shape).transpose(1, 2) for project in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, hidden)
        x = self.norm1(x + self.out(y))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """An encoder of BERT-base's shape over embedded tokens, and a classifier of the first one."""

    def __init__(self, layers=12, hidden=768, ffn=3072, heads=12, vocabulary=30522, longest=512, classes=2):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, hidden), nn.Embedding(longest, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(Layer(hidden, ffn, heads) for _ in range(layers))
        self.head = nn.Linear(hidden, classes)

    def forward(self, tokens):
        """(batch, length) to (batch, classes)."""
        x = self.norm(self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device)))
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


def resnet20(count):
    """(model, example, batches) of CIFAR's shape, 128 images a batch."""
    batches = [(torch.randn(128, 3, 32, 32), torch.randint(10, (128,))) for _ in range(count)]
    return build("resnet20").eval(), batches[0][0][:1], batches


def bert(count):
    """(model, example, batches), 8 x 128 tokens a batch."""
    batches = [(torch.randint(30522, (8, 128)), torch.randint(2, (8,))) for _ in range(count)]
    return Bert().eval(), batches[0][0][:1], batches


SUBJECTS = {"resnet20": resnet20, "bert": bert}
BATCHES, REPEATS = {"resnet20": 4, "bert": 2}, {"resnet20": 5, "bert": 3}


def plain(model, batches):
    """Forward and backward over all batches."""
    model.zero_grad()
    for inputs, target in batches:
        F.cross_entropy(model(inputs), target).backward()


def cases():
    """Name to kinds; none is the plain pass."""
    by_unit = tuple(k for k in KINDS if k not in BY_WEIGHT)
    return {"plain": (), "all": KINDS, "all by unit": by_unit} | {k: (k,) for k in (*KINDS, *APART)}


def work(name, model, graph, batches):
    """One pass over the batches."""
    if name == "plain":
        plain(model, batches)
    else:
        collect(graph, cases()[name], batches=batches)


def seconds(subject, count, repeats, names):
    """CPU seconds of each case, in turns."""
    model, example, batches = SUBJECTS[subject](count)
    graph, taken = secateur.trace(model, example), {name: [] for name in names}
    for repeat in range(repeats + 1):
        for name in reversed(names) if repeat % 2 else names:
            gc.collect()
            start = time.process_time()
            work(name, model, graph, batches)
            if repeat:  # the first round warms up
                taken[name].append(time.process_time() - start)
            model.zero_grad()
    return taken


def peak(subject, count, name):
    """MB above the process with the model traced and the batches made, and of that process."""
    model, example, batches = SUBJECTS[subject](count)
    graph = secateur.trace(model, example)
    before = reset()
    work(name, model, graph, batches)
    return {"peak_mb": round((resident("VmHWM") - before) / MB, 1), "before_mb": round(before / MB, 1)}


def over(found, digits=2):
    """Each case's medians, and how many times the plain pass it is: of each repeat, then the median."""
    told = {}
    for name, values in found.items():
        ratios = [v / p for v, p in zip(values, found["plain"], strict=True)]
        told[name] = {**harness.spread(values, 3), "over_plain": round(statistics.median(ratios), digits)}
    return told


def memory(subject, count, names):
    """Peaks of fresh processes: above the model, and of the model with it, over those of the plain pass."""
    script, found = str(Path("..") / "criteria" / HERE.name), {}
    for name in names:
        arguments = ("--one", subject, name, "--batches", str(count))
        found[name] = harness.fresh(script, *arguments, **GIVING_BACK)
        base = found["plain"]
        whole = (f["peak_mb"] + f["before_mb"] for f in (found[name], base))
        found[name]["over_plain"] = round(found[name]["peak_mb"] / base["peak_mb"], 2)
        found[name]["process_over_plain"] = round(next(whole) / next(whole), 2)
    return found


def show(subject, figures):
    """One line a case."""
    took, peaks = figures.get("seconds", {}), figures.get("memory", {})
    for name in took | peaks:
        line = f"{subject:9} {name:18}"
        if name in took:
            line += f" {took[name]['median']:8.3f} s, {took[name]['over_plain']:.2f} of plain"
        if name in peaks:
            at = peaks[name]
            line += f"   peak {at['peak_mb']:8.1f} MB, {at['over_plain']:.2f} of plain"
            line += f" ({at['process_over_plain']:.2f} with the process before)"
        print(line, flush=True)


def store(figures):
    """All figures, in place of those stored."""
    limits = {"seconds_of_all": LIMIT_SECONDS, "memory_of_all": LIMIT_MEMORY}
    harness.write("evidence", {"unit": "CPU seconds of one thread; MB of 2^20 bytes", "limits": limits, **figures})


def merged(figures):
    """The stored figures with these in their places."""
    stored = json.loads((harness.RESULTS / "engine_evidence.json").read_text())
    found = {subject: stored[subject] for subject in SUBJECTS}
    for subject, parts in figures.items():
        for part, told in parts.items():
            found[subject][part] = found[subject].get(part, {}) | told if isinstance(told, dict) else told
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--repeats", type=int, help="of each subject; by default 5 and 3")
    parser.add_argument("--batches", type=int, help="of each subject; by default 4 and 2")
    parser.add_argument("--cases", nargs="+", choices=cases(), default=list(cases()))
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-seconds", action="store_true")
    parser.add_argument("--merge", action="store_true", help="store what is measured beside what is stored")
    parser.add_argument("--one", nargs=2, metavar=("SUBJECT", "CASE"), help="peak memory of this, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.one:
        print(json.dumps(peak(options.one[0], options.batches or BATCHES[options.one[0]], options.one[1])))
        return
    names = list(dict.fromkeys(["plain", *options.cases]))
    figures = {}
    for subject in options.subjects:
        count, repeats = options.batches or BATCHES[subject], options.repeats or REPEATS[subject]
        figures[subject] = {"batches": count}
        if not options.no_seconds:
            figures[subject]["seconds"] = over(seconds(subject, count, repeats, names))
        if subject in MEMORY and not options.no_memory:
            figures[subject]["memory"] = memory(subject, count, names)
        show(subject, figures[subject])
    whole = set(names) == set(cases()) and set(figures) == set(SUBJECTS)
    if options.merge:
        store(merged(figures))
    elif whole and not options.no_memory and not options.no_seconds:
        store(figures)


if __name__ == "__main__":
    main()
