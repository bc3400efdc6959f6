import pytest

from secateur.training.history import History, Row


def history(*metrics):
    return History([Row(epoch, 0.5, 0.1, 1.0, metric) for epoch, metric in enumerate(metrics)])


def test_metrics_skip_what_was_not_evaluated():
    assert history(0.1, None, 0.3, None).metrics == [0.1, 0.3]
    assert history(0.1, 0.5, None, 0.3).best == 0.5
    assert history(None).best is None


@pytest.mark.parametrize(
    ("metrics", "patience", "stale"),
    [
        ((), 1, False),
        ((0.5,), 1, False),
        ((0.5, 0.5), 1, True),
        ((0.5, 0.6), 1, False),
        ((0.5, 0.6, 0.6), 2, False),
        ((0.5, 0.6, 0.6, 0.55), 2, True),
        ((0.5, 0.6, None, 0.6, None, 0.55), 2, True),
        ((0.5, 0.6, 0.55, 0.7), 2, False),
        ((0.9, 0.1, 0.2, 0.3), 3, True),
        ((0.9, 0.1, 0.2, 0.3), None, False),
    ],
)
def test_stale_means_no_evaluation_of_the_last_few_beat_the_best_before(metrics, patience, stale):
    assert history(*metrics).is_stale(patience) is stale
