"""Options: what a field declares is its rule, its flag and its own check."""

import dataclasses

import numpy as np
import pytest

from simclrv2_tf import options
from simclrv2_tf.options import ConfigError, option, shared


@dataclasses.dataclass(frozen=True)
class Spring(options.Checked):
    """Fields with names and order of their own."""

    stiffness: float = option(1.0, "How stiff.", flag="spring_stiffness", positive=True)
    turns: "int | None" = option(None, "How many turns.", minimum=1)
    free: int = 3  # no option


@dataclasses.dataclass(frozen=True)
class Damper(options.Checked):
    stiffness: float = shared(Spring, "stiffness")
    ratio: float = option(0.5, "How strong.", flag="damper_ratio", minimum=0, below=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group(options.Group):
    title = "Things"

    names: "tuple[str, ...] | None" = option(None, "Their names.", choices=("a", "b"))
    seed: int = option(0, "A seed.", minimum=0, once=True, incidental=True)


def test_a_dataclass_checks_its_options_when_it_is_made():
    assert Spring(np.float32(0.5), 2).stiffness == 0.5
    with pytest.raises(ConfigError) as caught:
        Spring(-1, 0)
    assert caught.value.errors == (
        "`stiffness` must be a positive finite number. Received: stiffness=-1",
        "`turns` must be a whole number of at least 1. Received: turns=0",
    )
    with pytest.raises(ConfigError, match="without duplicates. Received: names=a,a"):
        Group(names=("a", "a"))
    assert Group(names=["b", "a"]).names == ("b", "a") and Group().names is None


def test_what_is_declared_is_known_by_field():
    found = options.of(Spring)
    assert list(found) == ["stiffness", "turns"]
    assert (found["stiffness"].name, found["stiffness"].kind) == ("spring_stiffness", float)
    assert (found["turns"].kind, found["turns"].optional) == (int, True)
    assert options.of(Group)["names"].many and options.of(Group)["seed"].once
    assert options.of(Group)["seed"].incidental and not options.of(Group)["names"].incidental


def test_groups_merge_by_flag():
    Merged = options.merged(
        "Merged", "Both", (Spring, Damper), kind=("str", option("a", "Which.", choices=("a", "b")))
    )
    assert [f.name for f in dataclasses.fields(Merged)] == [
        "kind", "spring_stiffness", "turns", "damper_ratio",
    ]  # fmt: skip
    merged = Merged(spring_stiffness=2, damper_ratio=0.25)
    assert options.values(merged, Damper) == {"stiffness": 2.0, "ratio": 0.25}
    assert Spring(**options.values(merged, Spring)) == Spring(2.0)
    with pytest.raises(ConfigError, match="`damper_ratio`"):
        Merged(damper_ratio=1)


def test_one_flag_declared_in_two_ways_is_a_mistake():
    @dataclasses.dataclass(frozen=True)
    class Other(options.Checked):
        stiffness: float = option(2.0, "Another.", flag="spring_stiffness")

    with pytest.raises(TypeError, match="Other declares the flag `spring_stiffness`"):
        options.merged("Merged", "Both", (Spring, Other))


def test_arguments_are_checked_by_the_option_of_their_name():
    options.check_numbers(Spring, stiffness=2.0, turns=None)
    options.check_numbers(Spring, stiffness=np.ones(3))  # tensors pass
    with pytest.raises(ValueError, match="`stiffness` must be a positive finite number"):
        options.check_numbers(Spring, stiffness=0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,2", ("1", "2")), ("", None), ("a", ("a",))],
)
def test_texts_are_read_and_judged_later(text, value):
    assert options.of(Group)["names"].parse(text) == value
