from secateur.training.progress import bar


def test_a_shown_bar_says_loss_rate_and_metric(capsys):
    with bar(4, shown=True) as report:
        report(2, 0.5, 0.1, None)
        report(4, 0.25, 0.1, 0.875)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "loss 0.2500  lr 1.00e-01  metric 0.8750" in shown


def test_a_hidden_bar_says_nothing(capsys):
    with bar(4, shown=False) as report:
        report(2, 0.5, 0.1, None)
    assert capsys.readouterr() == ("", "")
