"""What commands say when they are done."""

from secateur.cli.choice import choose
from secateur.cli.job import NO_TRAINING, Job
from secateur.cli.outcome import asked, show
from secateur.cost.budget import Budget

FOUND = {
    "before": {"macs": 2_000_000},
    "after": {"macs": 1_000_000},
    "kept": {"macs": 0.5},
    "widths": [{"group": "conv1", "units": 16, "kept": 4}],
    "check": {"max_error": 2e-16, "tolerance": 1e-6, "reference": "the original"},
    "accuracy": {"dense": 0.5, "at_cut": None, "finetuned": 0.25},
    "out": None,
    "seconds": 1.25,
}


def task(method, criterion):
    by = choose(method, criterion, None, None)
    return Job("resnet20", None, None, None, None, None, by, Budget(macs=0.5), 64, "none", NO_TRAINING, 7)


def test_what_was_asked():
    parts = asked(task(None, "l1"), "digits")
    assert (parts["method"], parts["criterion"], parts["allocator"]) == (None, "l1", "ranked")
    assert (parts["model"], parts["data"], parts["budget"], parts["seed"]) == ("resnet20", "digits", "macs=0.5", 7)
    method = asked(task("taylor", None), None)
    assert (method["method"], method["criterion"], method["allocator"]) == ("taylor", "taylor", None)


def test_for_a_person(capsys):
    show(FOUND)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["conv1", "16", "4", "25.0", "%"] for line in lines)
    assert any(line.split() == ["macs", "2", "M", "1", "M", "50.0", "%"] for line in lines)
    assert lines[-3:] == [
        "check: relative difference from the original: 2.0e-16, 1e-06 allowed",
        "accuracy on the test images: dense 50.00 %, fine-tuned 25.00 %",
        "1.2 s; not saved: no --out",
    ]
