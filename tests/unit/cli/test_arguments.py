"""Arguments of commands: their own, and flags that are passed on in one piece."""

import pytest

from simclrv2_tf.cli.arguments import named, split
from simclrv2_tf.config import flag_options
from simclrv2_tf.config.other_names import OTHER_NAMES

FLAGS = flag_options()


@pytest.mark.parametrize(
    "args",
    [
        ["photos", "--seed", "3", "--use_blur", "--lr=0.1", "--preset", "quick"],
        ["--seed=3", "photos", "--use_blur", "--lr", "0.1", "--preset=quick"],
        ["--preset=quick", "--seed", "3", "--use_blur", "-learning_rate=0.1", "photos"],
    ],
)
def test_arguments_stand_anywhere(args):
    assert split(args, {"preset"}, FLAGS) == (
        ["photos"],
        {"preset": "quick"},
        ["--seed=3", "--use_blur", "--learning_rate=0.1"],
    )


def test_flags_of_one_stage_and_recipes_keep_their_value():
    args = ["--fine_tuned@0.01.train_epochs", "9", "--flagfile", "demo", "x"]
    assert split(args, (), FLAGS) == (
        ["x"],
        {},
        ["--fine_tuned@0.01.train_epochs=9", "--flagfile=demo"],
    )


def test_a_missing_value_is_left_for_its_message():
    assert split(["--seed"], (), FLAGS) == ([], {}, ["--seed"])
    assert split(["--preset"], {"preset"}, FLAGS) == ([], {"preset": ""}, [])
    assert split(["--unknown", "x"], (), FLAGS) == (["x"], {}, ["--unknown"])


def test_other_names_are_no_flags_and_mean_some():
    assert not set(OTHER_NAMES) & set(FLAGS)
    assert set(OTHER_NAMES.values()) <= set(FLAGS)


def test_arguments_before_the_first_flag_get_names():
    names = ("model", "images")
    assert named(["a", "b", "--k=1", "c"], names) == ["--model=a", "--images=b", "--k=1", "c"]
    assert named(["a", "--images=b"], names) == ["--model=a", "--images=b"]
    assert named(["a", "b", "c"], names) == ["--model=a", "--images=b", "c"]
    assert named([], names) == []
