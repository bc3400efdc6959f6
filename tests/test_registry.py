"""Registries: classes are found because their file is there."""

import math
from dataclasses import FrozenInstanceError, fields
from typing import Literal, get_origin, get_type_hints

import pytest

import secateur
from secateur.criteria.base import CRITERIA
from secateur.errors import BadOption, UnknownName


@pytest.mark.parametrize("kind", ["criteria", "allocators", "methods"])
def test_names_lead_to_classes_that_carry_them(kind):
    found = getattr(secateur, kind)()
    assert found
    assert list(found) == sorted(found)
    for name, cls in found.items():
        assert cls.name == name
        assert cls() == cls()
        assert hash(cls()) == hash(cls())
        with pytest.raises((FrozenInstanceError, AttributeError)):
            cls().name = "other"


def test_instances_pass_through():
    instance = secateur.criteria()["l1"](reduction="sum")
    assert CRITERIA.make(instance) is instance
    assert CRITERIA.make("l1").reduction == "mean"


@pytest.mark.parametrize(
    ("name", "near"), [("tailor", "taylor"), ("L2", "l2"), ("bn_scale", "bn-scale"), ("rand", "random")]
)
def test_the_nearest_name_is_suggested(name, near):
    with pytest.raises(UnknownName, match=f"there is no criterion '{name}'. Did you mean '{near}'"):
        CRITERIA.make(name)


def test_nothing_is_near():
    with pytest.raises(UnknownName, match=r"there is no criterion 'zzzzzz'\. Known: activation-norm, "):
        CRITERIA.make("zzzzzz")


def options():
    """Every option of what is registered that is one of a few words or may not be below 0, with what it cannot be."""
    kinds = (secateur.criteria, secateur.allocators, secateur.methods, secateur.weight_criteria)
    for kind in (cls for registered in kinds for cls in registered().values()):
        types = get_type_hints(kind)
        for field in fields(kind):
            wrong = {"seed": [-1], "per_macs": [-1, math.nan, math.inf]}.get(field.name, [])
            for value in ["wat"] if get_origin(types[field.name]) is Literal else wrong:
                yield pytest.param(kind, field.name, value, id=f"{kind.__name__}-{field.name}-{value}")


@pytest.mark.parametrize(("kind", "option", "value"), list(options()))
def test_what_an_option_cannot_be_is_refused_when_it_is_given(kind, option, value):
    with pytest.raises(BadOption, match=f"{option}={value!r}.* give "):
        kind(**{option: value})


def test_a_name_is_taken_once():
    with pytest.raises(AssertionError, match="two criterions named 'l1'"):

        @CRITERIA.register("l1")
        class Other:
            pass
