"""Pretrained CIFAR-10 ResNet-20 and ResNet-56 to at most 50 % of their MACs: accuracy at the cut and after one epoch.

    SECATEUR_DATA=/path/to/data python recipes/cifar10_half.py [resnet20 resnet56] [--seeds 0 1 2] [--workers 2]

About two and a half minutes a run and core for ResNet-20, twelve for ResNet-56 (both cores busy).

One epoch of SGD, one-cycle to lr 0.02, batch 128, crop and flip. Rows differ in the method, in what is pruned ("inner":
the convolutions inside the blocks; "all": the trunk and its padded shortcuts too), and in what repairs the cut before
any fine-tuning, from the same 2,048 training images without labels (criteria that need gradients see their labels).
Results land in recipes/results/, one JSON a model; killed and started again, the recipe goes on where it was.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from secateur.experiments.config import MethodSpec, Setting, Study
from secateur.experiments.study import compare
from secateur.report.table import as_json, table
from secateur.training import Recipe

ONE_EPOCH = Recipe(epochs=1, lr=0.02, batch_size=128, schedule="onecycle", weight_decay=5e-4)
TRUNK = ("conv1", "layer2.0.conv2", "layer3.0.conv2")  # one name for each group that the trunk consists of
METHODS = {"inner": ("l1:per_macs=0.6", "l1"), "all": ("l2",)}
REPAIRS = ("none", "reconstruct")


def study(model: str, scope: str, repair: str, methods: Sequence[str], seeds: tuple[int, ...], data: Path) -> Study:
    setting = Setting(
        data=f"cifar10:{data / 'cifar10'}",
        weights=str(data / "weights" / f"cifar10_{model}.safetensors"),
        train=ONE_EPOCH,
        finetune=ONE_EPOCH,
        calibration=2048,
        repair=repair,
        frozen=TRUNK if scope == "inner" else (),
    )
    return Study(
        name=f"cifar10-{model}-{scope}-{repair}",
        models=(model,),
        methods=tuple(MethodSpec.parse(m) for m in methods),
        budgets=("macs=0.5",),
        seeds=seeds,
        setting=setting,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet20", "resnet56"])
    parser.add_argument("--scope", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repair", nargs="+", default=list(REPAIRS), choices=REPAIRS)
    parser.add_argument("--methods", nargs="+", help="instead of those of the scope")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    data = Path(os.environ["SECATEUR_DATA"]).resolve()
    for model in options.models:
        out = Path(__file__).parent / "results" / f"cifar10_half_{model}.json"
        out.parent.mkdir(exist_ok=True)
        results = json.loads(out.read_text()) if out.exists() else {}
        for repair in reversed(options.repair):
            for scope in options.scope:
                methods = options.methods or METHODS[scope]
                chosen = study(model, scope, repair, methods, tuple(options.seeds), data)
                rows = compare(chosen, Path("runs/cifar10_half"), workers=options.workers)
                Console().print(f"{model}, pruned: {scope}, repair: {repair}", table(rows))
                results[f"{scope}, {repair}"] = json.loads(as_json(rows))
                out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
