"""Rows of made-up studies: pure data, as the run table would give them."""

from secateur.experiments.config import MethodSpec, Run, Setting
from secateur.experiments.store import Row
from secateur.training.recipe import Recipe

SETTING = Setting(data="digits", train=Recipe(epochs=10), finetune=Recipe(epochs=4))
BEFORE = {"macs": 1000, "params": 200, "bytes": 800}
SIZES = (("conv1", 16), ("layer1.0.conv1", 32))


def run(arm="finetune", seed=0, *, model="digits-resnet", method="l1", budget="macs=0.5", setting=SETTING):
    spec = MethodSpec.parse(method) if method else None
    return Run(model=model, arm=arm, seed=seed, setting=setting, method=spec, budget=None if arm == "dense" else budget)


def done(run, accuracy, *, kept=0.5, at_cut=0.3, dense=0.99, widths=(8, 16), epochs=4, max_error=1e-15):
    if run.arm == "dense":
        return Row(run, "done", {"accuracy": accuracy}, None, 1.0)
    result = {
        "accuracy": accuracy,
        "accuracy_dense": dense,
        "accuracy_at_cut": at_cut,
        "epochs": epochs,
        "before": BEFORE,
        "after": {"macs": round(1000 * kept), "params": round(200 * kept**2), "bytes": round(800 * kept**2)},
        "widths": [[name, size, width] for (name, size), width in zip(SIZES, widths, strict=True)],
        "max_error": max_error,
    }
    return Row(run, "done", result, None, 2.0)


def failed(run, error):
    return Row(run, "failed", None, error, 0.5)


def pending(run):
    return Row(run, "pending", None, None, None)


def study(models=("digits-resnet",), methods=("random", "l1"), budgets=("macs=0.5",), seeds=(0, 1, 2)):
    """A finished study with both arms; accuracies differ by model, method, budget, arm and seed."""
    rows = [done(run("dense", s, model=m, method=None), 0.98 + s / 1000) for m in models for s in seeds]
    for i, m in enumerate(models):
        for b, budget in enumerate(budgets):
            for s in seeds:
                for k, method in enumerate(methods):
                    kept, base = float(budget.partition("=")[2]), 0.95 + 0.004 * k + 0.01 * b + 0.001 * s - 0.0307 * i
                    given = {"model": m, "method": method, "budget": budget}
                    widths = (4 + 4 * b + s, 8 + 4 * k)
                    rows += [
                        done(run("finetune", s, **given), base, kept=kept, widths=widths),
                        done(run("scratch-e", s, **given), base + 0.005, kept=kept, widths=widths, epochs=10),
                    ]
    return rows
