"""The sentences follow from the numbers, and claim no more than the spread allows."""

from report_rows import done, failed, pending, run, study

from secateur.report.reading import readings, whole
from secateur.report.summary import summarise


def rows_of(method, accuracies, arm="finetune"):
    return [done(run(arm, s, method=method), a) for s, a in enumerate(accuracies)]


def said(rows):
    (reading,) = readings(summarise(rows))
    return " ".join(reading.paragraphs).replace("\N{NO-BREAK SPACE}", " ")


def test_a_difference_within_the_spread_is_called_so():
    text = said([*rows_of("random", (0.90, 0.92)), *rows_of("l1", (0.91, 0.93))])
    assert "from 91.00 ± 1.41 % (random, n = 2) to 92.00 ± 1.41 % (l1, n = 2)" in text
    assert "1.00 points apart, do not differ by more than the spread" in text
    assert "No method differs from random pruning by more than the spread." in text


def test_a_difference_beyond_the_spread_is_called_so():
    text = said([*rows_of("random", (0.90, 0.901)), *rows_of("l1", (0.95, 0.951)), *rows_of("l2", (0.80, 0.801))])
    assert "15.00 points apart, differ by more than the spread" in text
    assert "Above random pruning by more than the spread: l1. Below random pruning by more than the spread: l2." in text


def test_one_seed_ranks_nothing():
    text = said([*rows_of("random", (0.5,)), *rows_of("l1", (0.9,))])
    assert "cannot be held against a spread" in text
    assert "random pruning" not in text


def test_arms_are_compared_method_by_method():
    rows = [*rows_of("l1", (0.90, 0.901)), *rows_of("l1", (0.95, 0.951), "scratch-e")]
    rows += [*rows_of("l2", (0.90, 0.92, 0.94)), *rows_of("l2", (0.94, 0.90, 0.92), "scratch-e")]
    rows += [*rows_of("taylor", (0.90, 0.94)), *rows_of("taylor", (0.89, 0.94), "scratch-e")]
    text = said(rows)
    assert "higher fine-tuned for 1, higher from scratch for 1, equal for 1 of 3 methods" in text
    assert "Beyond the spread: l1 in favour of Scratch-E." in text


def test_the_dense_model_is_stated_from_its_own_runs():
    rows = study()
    assert whole(summarise(rows), "digits-resnet").values == (0.98, 0.981, 0.982)
    assert "the dense model has 98.10 ± 0.10 %" in said(rows)


def test_nothing_finished_is_said():
    text = said([failed(run(), "x"), pending(run("scratch-e"))])
    assert "Fine-tuned: no run is finished." in text
    assert "no method has finished runs of both" in text


def test_one_method_is_not_compared_with_itself():
    text = said(rows_of("l1", (0.90, 0.92)))
    assert text == "Fine-tuned: l1 reaches 91.00 ± 1.41 % (n = 2)."
