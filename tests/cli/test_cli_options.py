"""The words that options take are those of the library."""

from typing import get_args

from secateur.cli import options, prune
from secateur.experiments import config
from secateur.groups.group import KINDS
from secateur.prune import Repair
from secateur.schedule import Schedule as Steps
from secateur.training.recipe import Recipe


def words(kind):
    return {member.value for member in kind}


def test_the_words_are_those_of_the_library():
    assert words(options.Repair) == set(get_args(Repair))
    assert words(options.Schedule) == set(get_args(Recipe.model_fields["schedule"].annotation))
    assert words(options.Toward) == set(get_args(Steps))
    assert words(options.Arm) == set(get_args(config.Arm)) - {"dense"}


def test_every_choice_is_named_in_its_help():
    assert all(word in options.REPAIRS for word in words(options.Repair))
    assert all(word in options.SCHEDULES for word in words(options.Schedule))
    (option,) = prune.StepsSchedule.__metadata__
    assert all(word in option.help for word in words(options.Toward))


def test_every_kind_of_unit_is_named_in_the_help():
    (option,) = options.Kinds.__metadata__
    assert all(kind in option.help for kind in KINDS)
