"""What `oracle` and `sensitivity` share."""

import pytest
import typer

from secateur.cli.measuring import criteria
from secateur.criteria.base import CRITERIA
from secateur.criteria.l1 import L1


def test_criteria_are_joined_by_commas_with_their_options():
    found, every = criteria(["l1:reduction=sum, taylor", "random"])
    assert list(found) == ["l1:reduction=sum", "taylor", "random"]
    assert found["l1:reduction=sum"] == L1(reduction="sum")
    assert not every


def test_a_second_option_belongs_to_the_criterion_before_it():
    with pytest.raises(Exception, match="called 'b'"):
        criteria(["l1:reduction=sum,b=2"])


def test_all_are_all():
    found, every = criteria(["all"])
    assert every
    assert list(found) == sorted(CRITERIA.all())
    with pytest.raises(typer.BadParameter, match="'l1' is given twice"):
        criteria(["all,l1"])


@pytest.mark.parametrize("command", ["oracle", "sensitivity"])
def test_without_data_it_is_said_what_may_be_given(secateur, tmp_path, command):
    outcome = secateur(command, "--model", "digits-resnet", "--out", "new")
    assert outcome.code == 2
    assert "--data" in outcome.err
    assert "digits (comes with scikit-learn)" in outcome.err
    assert not (tmp_path / "new").exists()
