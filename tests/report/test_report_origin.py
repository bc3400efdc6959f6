"""What the page says about how its numbers were made."""

import torch
from report_rows import SETTING, study

from secateur.experiments.environment import environment
from secateur.report.origin import environments, recipe, shared, title_of
from secateur.training.recipe import Recipe


def test_what_runs_share_is_listed_once():
    facts = shared(study(models=("digits-resnet", "vgg16"), methods=("l1", "taylor:per=macs")))
    assert facts["Models"] == "digits-resnet, vgg16"
    assert facts["Methods"] == "l1, taylor(per=macs)"
    assert facts["Arms"] == "dense, finetune, scratch-e"
    assert facts["Seeds"] == "0, 1, 2"
    assert facts["Recipe of fine-tuning"] == recipe(SETTING.finetune)
    assert "Frozen" not in facts


def test_a_recipe_names_what_counts_for_its_schedule():
    steps = recipe(Recipe(epochs=8, lr=0.2, schedule="steps", milestones=(0.5,), warmup=0.1, weight_decay=1e-4))
    assert steps == (
        "8 epochs, batch size 128, sgd, lr 0.2, momentum 0.9, weight decay 0.0001, schedule steps, "
        "times 0.1 after 0.5 of the run, warm-up over 0.1 of the run"
    )
    assert "momentum" not in recipe(Recipe(epochs=8, schedule="onecycle"))


def test_what_runs_ran_on_is_told_with_how_many_did():
    rows = study(seeds=(0,))[:3]
    rows[0].result["environment"] = rows[1].result["environment"] = {"torch": "2.13.0"}
    rows[2].result["environment"] = {"torch": "2.4.0"}
    assert environments(rows) == [("2 of 3 runs", {"torch": "2.13.0"}), ("1 of 3 runs", {"torch": "2.4.0"})]
    assert environments([]) == []


def test_the_environment_of_a_result_is_that_of_its_process():
    facts = environment()
    assert facts["torch"] == torch.__version__
    assert facts["Threads of torch"] == str(torch.get_num_threads())


def test_the_title_names_models_and_data():
    assert title_of([row.run for row in study(models=("a", "b"))]) == "Pruning a, b on digits"
