"""The peer's best row on ResNet-20, re-run here under the conditions of recipes/cifar10_half.py.

    SECATEUR_DATA=/path/to/data make bench

Torch-Pruning, group L2 norm, one ratio for all layers, only the inner convolutions of the blocks: it cannot follow the
padded shortcut, and pruning the trunk gives a wrong network without a word. The ratio is the smallest (in steps of
0.01) that reaches at most 50 % of the MACs. Fine-tuned by our own loop, with the seeds and batches that our rows have.
"""

import argparse
import copy
import json
import os
import statistics
from importlib.metadata import version
from pathlib import Path

import torch
import torch_pruning as tp

import secateur
from secateur.cost.cost import CostModel
from secateur.experiments.data import load
from secateur.experiments.models import resolve
from secateur.training import Recipe, evaluate_accuracy, fit

ONE_EPOCH = Recipe(epochs=1, lr=0.02, batch_size=128, schedule="onecycle", weight_decay=5e-4)


def peer(dense, example):
    """The peer's pruned model and the fraction of MACs it keeps, by our counter."""
    whole = CostModel(secateur.trace(dense, example)).dense().macs
    for percent in range(40, 100):
        model = copy.deepcopy(dense)
        trunk = [m for n, m in model.named_modules() if n in ("conv1", "linear") or n.endswith("conv2")]
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        pruner = tp.pruner.BasePruner(
            model, example, importance=importance, pruning_ratio=percent / 100, ignored_layers=trunk
        )
        pruner.step()
        kept = CostModel(secateur.trace(model, example)).dense().macs / whole
        if kept <= 0.5:
            return model, kept
    raise SystemExit("no ratio reaches half of the MACs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(os.environ["SECATEUR_DATA"])
    data = load(f"cifar10:{root / 'cifar10'}")
    test = data.loader("test", batch_size=500)
    rows = []
    for seed in options.seeds:
        dense = resolve(options.model, weights=root / "weights" / f"cifar10_{options.model}.safetensors").eval()
        model, kept = peer(dense, data.example())
        at_cut = evaluate_accuracy(model, test)
        loader = data.loader("train", batch_size=ONE_EPOCH.batch_size, seed=seed, augment=True)
        fit(model, loader, ONE_EPOCH, seed=seed)
        rows.append({"seed": seed, "macs_kept": kept, "at_cut": at_cut, "accuracy": evaluate_accuracy(model, test)})
        print(rows[-1], flush=True)
    after = [r["accuracy"] for r in rows]
    spread = statistics.stdev(after) if len(after) > 1 else float("nan")
    name = f"torch-pruning {version('torch-pruning')}"  # its own __version__ is one behind
    print(f"{name} on {options.model}: {statistics.mean(after):.4f} ± {spread:.4f} after one epoch")
    out = Path(__file__).parent / "results" / f"peer_{options.model}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"peer": name, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
