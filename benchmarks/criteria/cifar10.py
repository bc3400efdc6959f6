"""Every criterion on the pretrained CIFAR-10 ResNets: one ranking over all groups to half of the MACs.

    SECATEUR_DATA=/path/to/data python benchmarks/criteria/cifar10.py [resnet20 resnet56] [--criteria NAME ...]
        [--scope all inner] [--finetune]

A row: seconds to score (one thread, data included) and the training images looked at; accuracy on the test images at
the cut, after least-squares reconstruction on the same images, and, with --finetune, after one epoch from the plain
cut (SGD, one-cycle to lr 0.02, batch 128, crop and flip). "inner" leaves the trunk whole and ranks by score per
MAC^0.6.
Rows land in benchmarks/results/criteria_MODEL.jsonl one by one; what is there already is not run again.
"""

import argparse
import json
import os
import time
from itertools import islice
from pathlib import Path

import torch

import secateur
from secateur.allocation.ranked import Ranked
from secateur.errors import SecateurError
from secateur.evidence.base import Sampling, from_data
from secateur.experiments.data import load
from secateur.experiments.models import resolve
from secateur.prune import mend
from secateur.training import Recipe, evaluate_accuracy, fit

RESULTS = Path(__file__).parents[1] / "results"
ONE_EPOCH = Recipe(epochs=1, lr=0.02, batch_size=128, schedule="onecycle", weight_decay=5e-4)
TRUNK = ("conv1", "layer2.0.conv2", "layer3.0.conv2")  # one name for each group that the trunk consists of
SCOPES = {"all": ((), Ranked()), "inner": (TRUNK, Ranked(per_macs=0.6))}
IMAGES, BATCH = 1024, 64


def pruned_by(criterion, model, example, scope, batches, seed):
    """Seconds to score, and the pruned model."""
    frozen, allocator = SCOPES[scope]
    graph = secateur.trace(model, example, frozen=frozen)
    began = time.perf_counter()
    evidence = secateur.collect(graph, criterion, batches=batches, seed=seed, sampling=Sampling(seed=seed))
    scores = secateur.score(graph, criterion, evidence=evidence)
    seconds = time.perf_counter() - began
    plan = secateur.allocate(graph, scores, secateur.Budget(macs=0.5), allocator=allocator)
    plan = secateur.choose(graph, plan, criterion, evidence)
    return graph, secateur.cut(graph, plan), seconds


def row(model, criterion, scope, seed, data, root):
    """What one criterion keeps, and the accuracy at the cut."""
    dense = resolve(model, weights=root / "weights" / f"cifar10_{model}.safetensors").eval()
    needs = secateur.criteria()[criterion].needs
    facts = {"model": model, "criterion": criterion, "scope": scope, "seed": seed, "needs": sorted(needs)}
    facts["images"] = IMAGES if from_data(needs) else 0
    try:
        _, pruned, seconds = pruned_by(criterion, dense, data.example(), scope, held(data, seed), seed)
    except SecateurError as error:
        return facts | {"refused": f"{type(error).__name__}: {error}"}
    facts |= {"seconds": seconds, "macs": pruned.after.macs / pruned.before.macs, "error": pruned.check.max_error}
    facts |= {"params": pruned.after.params / pruned.before.params, "at_cut": accuracy(pruned.model, data)}
    return facts | {"plan": pruned.plan.model_dump(mode="json")}


def held(data, seed):
    """The images that are looked at."""
    return list(islice(data.loader("train", batch_size=BATCH, seed=seed), IMAGES // BATCH))


def accuracy(model, data):
    return evaluate_accuracy(model, data.loader("test", batch_size=500))


def cut_again(found, data, root):
    """The graph of the whole model, and what a stored row made of it."""
    model = resolve(found["model"], weights=root / "weights" / f"cifar10_{found['model']}.safetensors").eval()
    graph = secateur.trace(model, data.example(), frozen=SCOPES[found["scope"]][0])
    return graph, secateur.cut(graph, secateur.Plan.model_validate(found["plan"]), verify="off")


def reconstructed(found, data, root):
    """The accuracy after least squares on the plain cut."""
    graph, pruned = cut_again(found, data, root)
    mend(graph, pruned, [x for x, _ in held(data, found["seed"])], "reconstruct")
    return accuracy(pruned.model, data)


def finetuned(found, data, root):
    """The accuracy after one epoch from the plain cut."""
    small = cut_again(found, data, root)[1].model
    loader = data.loader("train", batch_size=ONE_EPOCH.batch_size, seed=found["seed"], augment=True)
    fit(small, loader, ONE_EPOCH, seed=found["seed"])
    return accuracy(small, data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet20", "resnet56"])
    parser.add_argument("--criteria", nargs="+", help="instead of all")
    parser.add_argument("--scope", nargs="+", default=["all"], choices=SCOPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--finetune", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(os.environ["SECATEUR_DATA"])
    data = load(f"cifar10:{root / 'cifar10'}")
    wide = sorted(n for n, c in secateur.criteria().items() if c.units != "depth")
    for model in options.models:
        path = RESULTS / f"criteria_{model}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        done = {(r["criterion"], r["scope"], r["seed"]): r for r in lines}
        for scope in options.scope:
            for criterion in options.criteria or wide:
                key = (criterion, scope, options.seed)
                found = done.get(key) or row(model, *key, data, root)
                columns = {"reconstructed": reconstructed, **({"finetuned": finetuned} if options.finetune else {})}
                missing = [] if "refused" in found else [name for name in columns if name not in found]
                if key in done and not missing:
                    continue
                done[key] = found | {name: columns[name](found, data, root) for name in missing}
                path.write_text("".join(json.dumps(r) + "\n" for r in done.values()))
                print({k: v for k, v in done[key].items() if k != "plan"}, flush=True)


if __name__ == "__main__":
    main()
